/* An FMI 2.0 co-simulation slave of the plant, one number at a time. References: 0 q, 1 h, 2 speed, 3 to 9 params. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "plant.h"

#define POSITIVE(x) ((x) > 0.0 ? (x) : 0.0)
DEFINE_STEP(advance, double, fabs, sqrt, POSITIVE)
typedef struct { double v[3]; advance_params k; } slave;
#define OK 0
#define ERROR 3

static double *place(slave *s, unsigned reference) {
  return reference < 3 ? &s->v[reference] : (double *)&s->k + (reference - 3);
}
const char *fmi2GetTypesPlatform(void) { return "default"; }
const char *fmi2GetVersion(void) { return "2.0"; }
int fmi2SetDebugLogging(void *c, int on, size_t n, const char *const *names) { return OK; }
void *fmi2Instantiate(const char *name, int type, const char *guid, const char *folder, const void *calls, int visible, int logging) {
  return calloc(1, sizeof(slave));
}
void fmi2FreeInstance(void *c) { free(c); }
int fmi2SetupExperiment(void *c, int t, double tolerance, double start, int s, double stop) { return OK; }
int fmi2EnterInitializationMode(void *c) { return OK; }
int fmi2ExitInitializationMode(void *c) { return OK; }
int fmi2Terminate(void *c) { return OK; }
int fmi2Reset(void *c) { memset(c, 0, sizeof(slave)); return OK; }
int fmi2GetReal(void *c, const unsigned *r, size_t n, double *values) {
  for (size_t k = 0; k < n; k++) {
    if (r[k] > 9) return ERROR;
    values[k] = *place(c, r[k]);
  }
  return OK;
}
int fmi2SetReal(void *c, const unsigned *r, size_t n, const double *values) {
  for (size_t k = 0; k < n; k++) {
    if (r[k] > 9) return ERROR;
    *place(c, r[k]) = values[k];
  }
  return OK;
}
int fmi2DoStep(void *c, double now, double step, int keep) {
  slave *s = c;
  advance(&s->v[0], &s->v[1], s->v[2], &s->k, step / SUBSTEPS);
  return OK;
}
#define ABSENT(NAME) int NAME(void *c) { return ERROR; }
ABSENT(fmi2GetInteger) ABSENT(fmi2GetBoolean) ABSENT(fmi2GetString) ABSENT(fmi2SetInteger) ABSENT(fmi2SetBoolean)
ABSENT(fmi2SetString) ABSENT(fmi2GetFMUstate) ABSENT(fmi2SetFMUstate) ABSENT(fmi2FreeFMUstate)
ABSENT(fmi2SerializedFMUstateSize) ABSENT(fmi2SerializeFMUstate) ABSENT(fmi2DeSerializeFMUstate)
ABSENT(fmi2GetDirectionalDerivative) ABSENT(fmi2SetRealInputDerivatives) ABSENT(fmi2GetRealOutputDerivatives)
ABSENT(fmi2CancelStep) ABSENT(fmi2GetStatus) ABSENT(fmi2GetRealStatus) ABSENT(fmi2GetIntegerStatus)
ABSENT(fmi2GetBooleanStatus) ABSENT(fmi2GetStringStatus)
