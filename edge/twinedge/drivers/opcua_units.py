"""Engineering units of OPC UA (Part 8, 5.6.3) as units of ours: by UNECE code, else by the symbol shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twinmodel import units
from twinmodel.errors import InputError

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
_SYMBOLS: Final[Mapping[str, str]] = {
    "°C": "degC",
    "°F": "degF",
    "°": "deg",
    "r/min": "rpm",
    "1/min": "1/min",
    "r/s": "Hz",
    "℃": "degC",
    "℉": "degF",
    "deg C": "degC",
    "deg F": "degF",
    "DegC": "degC",
    "DegF": "degF",
    "C": "degC",
    "F": "degF",
    "rev/min": "rpm",
}
_NONE: Final = frozenset({"", "-", "--", "none", "n/a"})


def unit_id(code: str) -> int:
    """Number of a UNECE code: its letters as bytes."""
    return int.from_bytes(code.encode("ascii"), "big")


_BY_ID: Final = {unit_id(code): symbol for code, symbol in CODES.items()}


def symbol_of(namespace: str | None, number: int, shown: str | None) -> str | None:
    """Our symbol of an EUInformation; "" when it names none, None when it is not known here.

    Args:
        namespace: its NamespaceUri; the number means something only in that of UNECE.
        number: its UnitId, -1 for none.
        shown: text of its DisplayName.
    """
    if (namespace or UNECE_URI).rstrip("/") == UNECE_URI and number in _BY_ID:
        return _BY_ID[number]
    text = (shown or "").strip()
    if text.lower() in _NONE:
        return "" if number in {-1, 0} else None
    if text in _SYMBOLS:
        return _SYMBOLS[text]
    plain = text.replace("⁻¹", "^-1").replace("²", "2").replace("³", "3").replace("·", " ").replace("μ", "µ")
    try:
        units.parse(plain)
    except InputError:
        return None
    return plain


def agrees(server: str, profile: str, scale: float, offset: float) -> bool:
    """Whether `raw * scale + offset` turns values of the server's unit into those of the profile's.

    A server's number without a dimension (percent, counts, one) may be scaled to anything.
    """
    theirs, ours = units.parse(server), units.parse(profile)
    if theirs.dimension != ours.dimension:
        bare = units.parse("1").dimension
        return theirs.dimension == bare and (scale, offset) != (1.0, 0.0)
    near = (abs(units.convert(raw, theirs, ours) - raw * scale - offset) for raw in (0.0, 100.0))
    span = abs(units.convert(100.0, theirs, ours) - units.convert(0.0, theirs, ours))
    return all(distance <= 1e-3 * span for distance in near)
