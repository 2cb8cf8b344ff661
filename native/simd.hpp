// Short vectors of the target's width; tanh, sine and cosine on them.
//
// GCC and Clang vector extensions, so that one source serves AVX-512, AVX2, NEON and SSE. All lanes
// go through the same instructions: a result never depends on where in a tile its point lies.
#pragma once

#include <cmath>
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
  // pi/2 in three parts, the first two so short that their products with whole numbers are exact.
  static constexpr double half_pi[] = {0x1.921fb544p0, 0x1.0b4611a6p-34, 0x1.3198a2e037073p-69};
  static constexpr double two_over_pi = 0x1.45f306dc9c883p-1, largest_angle = 1e5;
};

template <> struct Simd<float> {
  using Vector = VectorF;
  using Bits = VectorI;
  static constexpr float round_to_integer = 0x1.8p23f, log2_e = 0x1.715476p0f;
  static constexpr float ln2_high = 0x1.62e400p-1f, ln2_low = 0x1.7f7d1cp-20f;
  static constexpr int mantissa_bits = 23, exponent_bias = 127;
  static constexpr float saturation = 10.0f;
  static constexpr float half_pi[] = {1.5703125f, 4.837512969970703125e-4f, 7.54978995489188e-8f};
  static constexpr float two_over_pi = 0x1.45f306p-1f, largest_angle = 5e3f;
};

template <class Real> using Vector = typename Simd<Real>::Vector;
template <class Real> constexpr int lanes = vector_bytes / int(sizeof(Real));

// Points of the longest tile; halves and quarters of it are whole vectors too.
template <class Real> constexpr int tile_points = 256 / int(sizeof(Real));

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

// Has v in a register from here on: GCC would rather read it from memory again wherever it is used.
template <class V> inline void keep_in_register(V& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__SSE2__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

// Adds the lanes pairwise.
template <class Real> inline Real sum_lanes(Vector<Real> v) {
  Real part[lanes<Real>];
  store<Real>(part, v);
  for (int width = lanes<Real> / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) part[i] += part[i + width];
  return part[0];
}

// Sums of neighbours, first of a, then of b: of numbers within 16 bytes, or of Wide ones of 16 bytes.
// (These are what processors exchange in one instruction.)
template <class Real, bool Wide, int... I>
inline Vector<Real> add_neighbours(Vector<Real> a, Vector<Real> b,
                                   std::integer_sequence<int, I...>) {
  constexpr int L = lanes<Real>, P = 16 / int(sizeof(Real));
  // Where in (a, b) the first of the two stands that lane i of the result adds.
  constexpr auto place = [](int i) {
    if (Wide) return i / (L / 2) * L + i % (L / 2) / P * (2 * P) + i % P;
    return i % P / (P / 2) * L + i / P * P + i % (P / 2) * 2;
  };
  constexpr int apart = Wide ? P : 1;
  return __builtin_shufflevector(a, b, place(I)...) +
         __builtin_shufflevector(a, b, (place(I) + apart)...);
}

// The lane sums of as many vectors as there are lanes: lane k of the result is that of v[k].
template <class Real> inline Vector<Real> sum_each(Vector<Real>* v) {
  constexpr int L = lanes<Real>, parts = vector_bytes / 16;
  constexpr std::make_integer_sequence<int, L> places{};
#pragma GCC unroll 4
  for (int width = L / 2; width >= parts; width /= 2)
#pragma GCC unroll 8
    for (int k = 0; k < width; ++k)
      v[k] = add_neighbours<Real, false>(v[2 * k], v[2 * k + 1], places);
  if constexpr (parts > 1)
#pragma GCC unroll 4
    for (int width = parts / 2; width > 0; width /= 2)
#pragma GCC unroll 8
      for (int k = 0; k < width; ++k)
        v[k] = add_neighbours<Real, true>(v[2 * k], v[2 * k + 1], places);
  return v[0];
}

// (e^r - 1 - r) / r^2 for |r| <= ln(2)/2: the polynomial of least error in double precision, 2e-17
// of e^r - 1, and Taylor's in single.
inline VectorD expm1_tail(VectorD r) {
  VectorD q = r * 0x1.af746af4d260cp-26 + 0x1.28a085abae19cp-22;
  q = q * r + 0x1.71ddeb8c8620bp-19;
  q = q * r + 0x1.a019a8fe0884bp-16;
  q = q * r + 0x1.a01a01b51b471p-13;
  q = q * r + 0x1.6c16c17e3ec98p-10;
  q = q * r + 0x1.111111110e931p-7;
  q = q * r + 0x1.55555555525b4p-5;
  q = q * r + 0x1.555555555555cp-3;
  return q * r + 0x1.0000000000004p-1;
}

inline VectorF expm1_tail(VectorF r) {
  VectorF q = r * (1.0f / 5040.0f) + (1.0f / 720.0f);
  q = q * r + (1.0f / 120.0f);
  q = q * r + (1.0f / 24.0f);
  q = q * r + (1.0f / 6.0f);
  return q * r + 0.5f;
}

// Vectors of which the instructions of tanh are interleaved: one by itself would wait for each result.
template <class Real, int T>
constexpr int tanh_vectors = T / lanes<Real> < 4 ? T / lanes<Real> : 4;

// x becomes tanh(x) = (e^{2|x|} - 1) / (e^{2|x|} + 1) with the sign of x, through expm1: accurate to
// about two units in the last place over all x, small ones included; NaN stays NaN.
template <class Real, int Count> inline void tanh(Vector<Real> (&x)[Count]) {
  using V = Vector<Real>;
  using Bits = typename Simd<Real>::Bits;
  using S = Simd<Real>;
  const Bits sign = bit_cast<Bits>(-V{});  // of -0
  Bits signs[Count];
  V r[Count], power[Count], tail[Count];
#pragma GCC unroll 4
  for (int n = 0; n < Count; ++n) {
    const Bits bits = bit_cast<Bits>(x[n]);
    signs[n] = bits & sign;
    V magnitude = bit_cast<V>(bits & ~sign);
    magnitude = magnitude > S::saturation ? V{} + S::saturation : magnitude;
    const V twice = magnitude + magnitude;
    const V shifted = twice * S::log2_e + S::round_to_integer;
    const V k = shifted - S::round_to_integer;
    r[n] = twice - k * S::ln2_high;
    r[n] = r[n] - k * S::ln2_low;
    power[n] = bit_cast<V>((bit_cast<Bits>(shifted) + S::exponent_bias) << S::mantissa_bits);  // 2^k
  }
#pragma GCC unroll 4
  for (int n = 0; n < Count; ++n) tail[n] = expm1_tail(r[n]);
#pragma GCC unroll 4
  for (int n = 0; n < Count; ++n) {
    const V expm1_r = r[n] + (r[n] * r[n]) * tail[n];
    const V expm1_twice = power[n] * expm1_r + (power[n] - Real(1));
    const V result = expm1_twice / (expm1_twice + Real(2));
    x[n] = bit_cast<V>(bit_cast<Bits>(result) | signs[n]);
  }
}

template <class Real> inline Vector<Real> tanh(Vector<Real> x) {
  Vector<Real> one[] = {x};
  tanh<Real>(one);
  return one[0];
}

// sin(r)/r - 1 and cos(r) - 1 + r^2/2 for |r| <= pi/4, by polynomials in z = r^2 (FreeBSD's msun,
// Cephes).
inline VectorD sine_tail(VectorD z) {
  VectorD q = z * 1.58969099521155010221e-10 - 2.50507602534068634195e-08;
  q = q * z + 2.75573137070700676789e-06;
  q = q * z - 1.98412698298579493134e-04;
  q = q * z + 8.33333333332248946124e-03;
  return (q * z - 1.66666666666666324348e-01) * z;
}

inline VectorD cosine_tail(VectorD z) {
  VectorD q = z * -1.13596475577881948265e-11 + 2.08757232129817482790e-09;
  q = q * z - 2.75573143513906633035e-07;
  q = q * z + 2.48015872894767294178e-05;
  q = q * z - 1.38888888888741095749e-03;
  return (q * z + 4.16666666666666019037e-02) * (z * z);
}

inline VectorF sine_tail(VectorF z) {
  const VectorF q = z * -1.9515295891e-4f + 8.3321608736e-3f;
  return (q * z - 1.6666654611e-1f) * z;
}

inline VectorF cosine_tail(VectorF z) {
  const VectorF q = z * 2.443315711809948e-5f - 1.388731625493765e-3f;
  return (q * z + 4.166664568298827e-2f) * (z * z);
}

// sin(x) and cos(x): x less the nearest multiple of pi/2, polynomials there, and the quadrant; to
// about one unit in the last place. Large angles, infinities and NaN go by the C library.
template <class Real>
inline void sine_and_cosine(Vector<Real> x, Vector<Real>& sine, Vector<Real>& cosine) {
  using V = Vector<Real>;
  using Bits = typename Simd<Real>::Bits;
  using S = Simd<Real>;
  const V shifted = x * S::two_over_pi + S::round_to_integer;
  const V k = shifted - S::round_to_integer;
  V r = x - k * S::half_pi[0];
  r = r - k * S::half_pi[1];
  r = r - k * S::half_pi[2];
  const V z = r * r, s = r + r * sine_tail(z), half = Real(0.5) * z, one = V{} + Real(1);
  const V c = (one - half) + ((one - (one - half)) - half + cosine_tail(z));
  const Bits quadrant = bit_cast<Bits>(shifted), swapped = (quadrant & 1) != 0;
  sine = swapped ? c : s;
  cosine = swapped ? s : c;
  sine = (quadrant & 2) != 0 ? -sine : sine;
  cosine = ((quadrant + 1) & 2) != 0 ? -cosine : cosine;
  const V magnitude = x < V{} ? -x : x;
  const Bits small = magnitude <= S::largest_angle;
  bool all_small = true;
  for (int l = 0; l < lanes<Real>; ++l) all_small &= small[l] != 0;
  if (all_small) return;
  for (int l = 0; l < lanes<Real>; ++l)
    if (!small[l]) {
      sine[l] = std::sin(x[l]);
      cosine[l] = std::cos(x[l]);
    }
}

}  // namespace hpctrain
