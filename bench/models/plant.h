/* The plant of plant.yaml for one number or a vector of them; the order of operations is that of the op-list. */
typedef double vd __attribute__((vector_size(64), aligned(8), may_alias));
#define SUBSTEPS 4

#define DEFINE_STEP(NAME, T, ABS, SQRT, POSITIVE)                                                                    \
  typedef struct { T rated, shut_off, fixed, friction, inertia, fill, outlet; } NAME##_params;                       \
  static inline __attribute__((always_inline)) void NAME##_rates(T q, T h, T head, const NAME##_params *k, T *dq, T *dh) { \
    *dq = k->inertia * (head - k->fixed - h - k->friction * q * ABS(q));                                             \
    *dh = k->fill * (q - k->outlet * SQRT(POSITIVE(h)));                                                             \
  }                                                                                                                  \
  static inline __attribute__((always_inline)) void NAME(T *q, T *h, T speed, const NAME##_params *k, double dt) {   \
    const double half = dt * 0.5, sixth = dt / 6.0;                                                                  \
    const T n = speed / k->rated, head = k->shut_off * n * n;                                                        \
    for (int s = 0; s < SUBSTEPS; s++) {                                                                             \
      T a, b, sa, sb;                                                                                                \
      NAME##_rates(*q, *h, head, k, &a, &b);                                                                         \
      sa = a, sb = b;                                                                                                \
      NAME##_rates(*q + half * a, *h + half * b, head, k, &a, &b);                                                   \
      sa = sa + 2.0 * a, sb = sb + 2.0 * b;                                                                          \
      NAME##_rates(*q + half * a, *h + half * b, head, k, &a, &b);                                                   \
      sa = sa + 2.0 * a, sb = sb + 2.0 * b;                                                                          \
      NAME##_rates(*q + dt * a, *h + dt * b, head, k, &a, &b);                                                       \
      *q = *q + sixth * (sa + a), *h = *h + sixth * (sb + b);                                                        \
    }                                                                                                                \
  }
