// Short vectors of the target's width, and tanh on them.
//
// GCC and Clang vector extensions, so that one source serves AVX-512, AVX2, NEON and SSE. All lanes
// go through the same instructions: a result never depends on where in a tile its point lies.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace hpctrain {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int panel_vectors = 4;  // vectors of points held in registers at once
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
constexpr int panel_vectors = 2;
#else
constexpr int vector_bytes = 16;
constexpr int panel_vectors = 2;
#endif

typedef double VectorD __attribute__((vector_size(vector_bytes)));
typedef float VectorF __attribute__((vector_size(vector_bytes)));
typedef int64_t VectorL __attribute__((vector_size(vector_bytes)));
typedef int32_t VectorI __attribute__((vector_size(vector_bytes)));

template <class Real> struct Simd;

template <> struct Simd<double> {
  using Vector = VectorD;
  using Bits = VectorL;
  static constexpr double round_to_integer = 0x1.8p52, log2_e = 0x1.71547652b82fep0;
  static constexpr double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
  static constexpr int mantissa_bits = 52, exponent_bias = 1023;
  static constexpr double saturation = 20.0;
};

template <> struct Simd<float> {
  using Vector = VectorF;
  using Bits = VectorI;
  static constexpr float round_to_integer = 0x1.8p23f, log2_e = 0x1.715476p0f;
  static constexpr float ln2_high = 0x1.62e400p-1f, ln2_low = 0x1.7f7d1cp-20f;
  static constexpr int mantissa_bits = 23, exponent_bias = 127;
  static constexpr float saturation = 10.0f;
};

template <class Real> using Vector = typename Simd<Real>::Vector;
template <class Real> constexpr int lanes = vector_bytes / int(sizeof(Real));

template <class To, class From> inline To bit_cast(const From& from) {
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

template <class Real> inline Vector<Real> load(const Real* from) {
  Vector<Real> v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

template <class Real> inline void store(Real* to, Vector<Real> v) { std::memcpy(to, &v, sizeof(v)); }

// Adds the lanes pairwise.
template <class Real> inline Real sum_lanes(Vector<Real> v) {
  Real part[lanes<Real>];
  store<Real>(part, v);
  for (int width = lanes<Real> / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) part[i] += part[i + width];
  return part[0];
}

template <class V, int... I>
inline V add_neighbours(V a, V b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...) + __builtin_shufflevector(a, b, (2 * I + 1)...);
}

// The lane sums of as many vectors as there are lanes: lane k of the result is that of v[k].
template <class Real> inline Vector<Real> sum_each(Vector<Real>* v) {
#pragma GCC unroll 4
  for (int width = lanes<Real> / 2; width > 0; width /= 2)
#pragma GCC unroll 8
    for (int k = 0; k < width; ++k)
      v[k] = add_neighbours(v[2 * k], v[2 * k + 1],
                            std::make_integer_sequence<int, lanes<Real>>{});
  return v[0];
}

// (e^r - 1 - r) / r^2 for |r| <= ln(2)/2, by its Taylor polynomial to the last bit.
inline VectorD expm1_tail(VectorD r) {
  VectorD q = r * (1.0 / 6227020800.0) + (1.0 / 479001600.0);
  q = q * r + (1.0 / 39916800.0);
  q = q * r + (1.0 / 3628800.0);
  q = q * r + (1.0 / 362880.0);
  q = q * r + (1.0 / 40320.0);
  q = q * r + (1.0 / 5040.0);
  q = q * r + (1.0 / 720.0);
  q = q * r + (1.0 / 120.0);
  q = q * r + (1.0 / 24.0);
  q = q * r + (1.0 / 6.0);
  return q * r + 0.5;
}

inline VectorF expm1_tail(VectorF r) {
  VectorF q = r * (1.0f / 5040.0f) + (1.0f / 720.0f);
  q = q * r + (1.0f / 120.0f);
  q = q * r + (1.0f / 24.0f);
  q = q * r + (1.0f / 6.0f);
  return q * r + 0.5f;
}

// tanh(x) = (e^{2|x|} - 1) / (e^{2|x|} + 1) with the sign of x, through expm1: accurate to about
// two units in the last place over all x, small ones included; NaN stays NaN.
template <class Real> inline Vector<Real> tanh(Vector<Real> x) {
  using V = Vector<Real>;
  using Bits = typename Simd<Real>::Bits;
  using S = Simd<Real>;
  const V zero = {};
  V magnitude = x < zero ? -x : x;
  magnitude = magnitude > S::saturation ? zero + S::saturation : magnitude;
  const V twice = magnitude + magnitude;
  const V shifted = twice * S::log2_e + S::round_to_integer;
  const V k = shifted - S::round_to_integer;
  V r = twice - k * S::ln2_high;
  r = r - k * S::ln2_low;
  const V expm1_r = r + (r * r) * expm1_tail(r);
  const V power =
      bit_cast<V>((bit_cast<Bits>(shifted) + S::exponent_bias) << S::mantissa_bits);  // 2^k
  const V expm1_twice = power * expm1_r + (power - Real(1));
  const V result = expm1_twice / (expm1_twice + Real(2));
  return x < zero ? -result : result;
}

}  // namespace hpctrain
