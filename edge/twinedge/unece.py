"""Codes of UNECE Recommendation 20, by which OPC UA names engineering units, and our symbols for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

UNECE_URI: Final = "http://www.opcfoundation.org/UA/units/un/cefact"
# Codes of UNECE Recommendation 20; those whose symbol cannot be read as it stands, and the most common others.
_TABLE: Final = """
    C62 = 1, P1 = %, 59 = ppm, C81 = rad, DD = deg, KEL = K, CEL = degC, FAH = degF, MTR = m, CMT = cm, MMT = mm,
    KMT = km, 4H = um, INH = in, FOT = ft, MTK = m2, CMK = cm2, MMK = mm2, MTQ = m3, LTR = l, MLT = ml, CMQ = cm3,
    MMQ = mm3, DMQ = l, KGM = kg, GRM = g, MGM = mg, TNE = t, LBR = lb, KMQ = kg/m3, GL = g/l, 23 = g/cm3, SEC = s,
    MIN = min, HUR = h, DAY = d, C26 = ms, B98 = us, C47 = ns, HTZ = Hz, KHZ = kHz, MHZ = MHz, A86 = GHz, RPM = rpm,
    M46 = rpm, RPS = Hz, C97 = 1/s, C94 = 1/min, H10 = 1/h, 2A = rad/s, MTS = m/s, C16 = mm/s, 2X = m/min,
    KMH = km/h, MSK = m/s2, MQH = m3/h, MQS = m3/s, L2 = l/min, G51 = l/s, E32 = l/h, KGS = kg/s, E93 = kg/h,
    PAL = Pa, KPA = kPa, MPA = MPa, A97 = hPa, BAR = bar, MBR = mbar, PS = psi, ATM = atm, NEW = N, B47 = kN,
    NU = N*m, JOU = J, KJO = kJ, 3B = MJ, WTT = W, KWT = kW, MAW = MW, WHR = Wh, KWH = kWh, MWH = MWh, D46 = VA,
    KVA = kVA, D44 = var, KVR = kvar, AMP = A, 4K = mA, VLT = V, 2Z = mV, KVT = kV, OHM = ohm, AMH = Ah, COU = C,
"""
CODES: Final[Mapping[str, str]] = {
    code.strip(): symbol.strip() for code, _, symbol in (e.partition("=") for e in _TABLE.split(",")) if symbol
}


def unit_id(code: str) -> int:
    """Number of a UNECE code: its letters as bytes."""
    return int.from_bytes(code.encode("ascii"), "big")
