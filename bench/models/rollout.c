/* A free run by hand: GROUPS vectors of 8 lanes go through all ticks with states and parameters in registers. */
#include <stdint.h>
#include "plant.h"

static inline vd vector_abs(vd x) {
  typedef uint64_t vu __attribute__((vector_size(64)));
  return (vd)((vu)x & 0x7fffffffffffffffULL);
}
static inline vd vector_sqrt(vd x) {
  vd y;
  for (int k = 0; k < 8; k++) y[k] = __builtin_sqrt(x[k]);
  return y;
}
static inline vd vector_positive(vd x) {
  typedef int64_t vi __attribute__((vector_size(64)));
  return (vd)((vi)x & (x > 0.0));
}
DEFINE_STEP(advance, vd, vector_abs, vector_sqrt, vector_positive)

void peer(void **places, int64_t *sizes) {
  const int32_t *K = places[2];
  const double *M = places[1], *S = places[3], *Z = places[4];
  double *restrict O = places[5];
  const int64_t ticks = K[0], N = sizes[7];
  const double dt = M[DT];
  for (int64_t base = 0; base < N; base += 8 * GROUPS) {
    vd q[GROUPS], h[GROUPS];
    advance_params k[GROUPS];
    for (int g = 0; g < GROUPS; g++) {
      const double *s = S + base + 8 * g;
      q[g] = *(vd *)s, h[g] = *(vd *)(s + N);
      k[g].rated = *(vd *)(s + 2 * N), k[g].shut_off = *(vd *)(s + 3 * N), k[g].fixed = *(vd *)(s + 4 * N);
      k[g].friction = *(vd *)(s + 5 * N), k[g].inertia = *(vd *)(s + 6 * N), k[g].fill = *(vd *)(s + 7 * N);
      k[g].outlet = *(vd *)(s + 8 * N);
    }
    for (int64_t t = 0; t < ticks; t++) {
      const vd speed = Z[t] - (vd){0};
      double *o = O + 2 * t * N + base;
      for (int g = 0; g < GROUPS; g++) {
        *(vd *)(o + 8 * g) = q[g];
        *(vd *)(o + N + 8 * g) = h[g];
        advance(&q[g], &h[g], speed, &k[g], dt);
      }
    }
  }
}
