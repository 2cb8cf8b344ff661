#include "pairs.hpp"

#include "simd.hpp"

namespace hpctrain {

namespace {

typedef float HalfVectorF __attribute__((vector_size(vector_bytes / 2)));
constexpr int L = lanes<double>;

inline VectorD widened(const double* from) { return load<double>(from); }

inline VectorD widened(const float* from) {
  HalfVectorF half;
  std::memcpy(&half, from, sizeof(half));
  return __builtin_convertvector(half, VectorD);
}

inline void narrowed(double* to, VectorD v) { store<double>(to, v); }

inline void narrowed(float* to, VectorD v) {
  const HalfVectorF half = __builtin_convertvector(v, HalfVectorF);
  std::memcpy(to, &half, sizeof(half));
}

// Rows and vectors of `out` that are summed in registers at once.
constexpr int tile_rows = 5, tile_vectors = panel_vectors, width = tile_vectors * L;
// Tiles whose columns are read together: long enough pieces of each vector to be fetched ahead.
constexpr int64_t block_tiles = 8;

// out[i][0 .. width) = sum_r weights[i][r] x[r][0 .. width) for `Rows` rows i.
template <class Real, int Rows>
void combine_tile(const double* x, const double* weights, int64_t terms, int64_t n, Real* out) {
  VectorD sum[Rows][tile_vectors] = {};
  for (int64_t r = 0; r < terms; ++r)
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v)
        sum[i][v] += weights[i * terms + r] * load<double>(x + r * width + v * L);
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < tile_vectors; ++v) narrowed(out + i * n + v * L, sum[i][v]);
}

}  // namespace

template <class Real>
void pair_products(const std::vector<const Real*>& rows, const Real* x, const Real* y, int64_t n,
                   double* products) {
  constexpr int chains = 4;
  for (const Real* row : rows) {
    VectorD with_x[chains] = {}, with_y[chains] = {};
    int64_t j = 0;
    for (; j + chains * L <= n; j += chains * L)
#pragma GCC unroll 4
      for (int c = 0; c < chains; ++c) {
        const VectorD value = widened(row + j + c * L);
        with_x[c] += value * widened(x + j + c * L);
        with_y[c] += value * widened(y + j + c * L);
      }
    double sum_x = sum_lanes<double>((with_x[0] + with_x[1]) + (with_x[2] + with_x[3]));
    double sum_y = sum_lanes<double>((with_y[0] + with_y[1]) + (with_y[2] + with_y[3]));
    for (; j < n; ++j) {
      sum_x += double(row[j]) * double(x[j]);
      sum_y += double(row[j]) * double(y[j]);
    }
    *products++ = sum_x;
    *products++ = sum_y;
  }
}

template <class Real>
void pair_combination(const std::vector<const Real*>& S, const std::vector<const Real*>& Y,
                      double gamma, const double* weights, int64_t count, int64_t n, Real* out) {
  const int64_t terms = int64_t(S.size()), whole = n / width * width;
  std::vector<double> x(terms * block_tiles * width);
  for (int64_t first = 0; first < whole; first += block_tiles * width) {
    const int64_t tiles = std::min<int64_t>(block_tiles, (whole - first) / width);
    for (int64_t r = 0; r < terms; ++r)
      for (int64_t t = 0; t < tiles; ++t)
        for (int v = 0; v < width; v += L) {
          const int64_t j = first + t * width + v;
          store<double>(x.data() + (t * terms + r) * width + v,
                        widened(Y[r] + j) - gamma * widened(S[r] + j));
        }
    for (int64_t t = 0; t < tiles; ++t) {
      const double* own = x.data() + t * terms * width;
      Real* to = out + first + t * width;
      int64_t i = 0;
      for (; i + tile_rows <= count; i += tile_rows)
        combine_tile<Real, tile_rows>(own, weights + i * terms, terms, n, to + i * n);
      for (; i < count; ++i)
        combine_tile<Real, 1>(own, weights + i * terms, terms, n, to + i * n);
    }
  }
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = whole; j < n; ++j) {
      double sum = 0;
      for (int64_t r = 0; r < terms; ++r)
        sum += weights[i * terms + r] * (double(Y[r][j]) - gamma * double(S[r][j]));
      out[i * n + j] = Real(sum);
    }
}

template void pair_products<double>(const std::vector<const double*>&, const double*, const double*,
                                    int64_t, double*);
template void pair_products<float>(const std::vector<const float*>&, const float*, const float*,
                                   int64_t, double*);
template void pair_combination<double>(const std::vector<const double*>&,
                                       const std::vector<const double*>&, double, const double*,
                                       int64_t, int64_t, double*);
template void pair_combination<float>(const std::vector<const float*>&,
                                      const std::vector<const float*>&, double, const double*,
                                      int64_t, int64_t, float*);

}  // namespace hpctrain
