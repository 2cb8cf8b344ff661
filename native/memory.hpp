// Memory that is new in every call, where small pages would cost as much as what is computed there.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace hpctrain {

constexpr size_t large_page = 1 << 21;

// Asks for large pages, where the system has them, for those that lie within this memory.
inline void prefer_large_pages(void* memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
  const uintptr_t begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (begin + large_page - 1) / large_page * large_page;
  const uintptr_t last = (begin + bytes) / large_page * large_page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace hpctrain
