"""Units of the DTDL extension `quantitativeTypes` version 1, each with its semantic type and our symbol."""

from __future__ import annotations

from typing import Final

_TABLE: Final = """
Acceleration metrePerSecondSquared=m/s2 centimetrePerSecondSquared=cm/s2
Angle radian=rad degreeOfArc=deg
AngularAcceleration radianPerSecondSquared=rad/s2
AngularVelocity radianPerSecond=rad/s degreePerSecond=deg/s revolutionPerMinute=rpm
ApparentPower voltAmpere=VA kilovoltAmpere=kVA megavoltAmpere=MVA millivoltAmpere=mVA gigavoltAmpere=GVA
Area squareMetre=m2 squareCentimetre=cm2 squareMillimetre=mm2 squareKilometre=km2 squareFoot=ft2 squareInch=in2
Capacitance farad=F millifarad=mF microfarad=uF nanofarad=nF picofarad=pF
Current ampere=A kiloampere=kA milliampere=mA microampere=uA
Density kilogramPerCubicMetre=kg/m3 gramPerCubicMetre=g/m3 milligramPerCubicMetre=mg/m3 microgramPerCubicMetre=ug/m3
ElectricCharge coulomb=C ampereHour=Ah milliampereHour=mAh
Energy joule=J kilojoule=kJ megajoule=MJ gigajoule=GJ wattHour=Wh kilowattHour=kWh megawattHour=MWh
Energy gigawattHour=GWh terawattHour=TWh milliwattHour=mWh
EnergyRate joulePerHour=J/h joulePerSecond=J/s kilojoulePerHour=kJ/h kilojoulePerSecond=kJ/s megajoulePerHour=MJ/h
EnergyRate gigajoulePerHour=GJ/h
Force newton=N
Frequency hertz=Hz kilohertz=kHz megahertz=MHz gigahertz=GHz millihertz=mHz
Inductance henry=H millihenry=mH microhenry=uH
Irradiance wattPerSquareMetre=W/m2
Length metre=m centimetre=cm millimetre=mm micrometre=um nanometre=nm kilometre=km foot=ft inch=in
Luminance candelaPerSquareMetre=cd/m2
LuminousIntensity candela=cd
MagneticFlux weber=Wb
MagneticInduction tesla=T
Mass kilogram=kg gram=g milligram=mg microgram=ug tonne=t massPound=lb
MassFlowRate kilogramPerSecond=kg/s kilogramPerHour=kg/h gramPerSecond=g/s gramPerHour=g/h massPoundPerHour=lb/h
Power watt=W milliwatt=mW microwatt=uW kilowatt=kW megawatt=MW gigawatt=GW
Pressure pascal=Pa hectopascal=hPa kilopascal=kPa bar=bar millibar=mbar poundPerSquareInch=psi
ReactivePower voltAmpereReactive=var kilovoltAmpereReactive=kvar megavoltAmpereReactive=Mvar
Resistance ohm=ohm milliohm=mohm kiloohm=kohm megaohm=Mohm
Temperature kelvin=K degreeCelsius=degC degreeFahrenheit=degF
TimeSpan second=s millisecond=ms microsecond=us nanosecond=ns minute=min hour=h day=d
Torque newtonMetre=N*m
Velocity metrePerSecond=m/s centimetrePerSecond=cm/s kilometrePerSecond=km/s kilometrePerHour=km/h metrePerHour=m/h
Voltage volt=V millivolt=mV microvolt=uV kilovolt=kV megavolt=MV
Volume cubicMetre=m3 cubicCentimetre=cm3 litre=l millilitre=ml cubicFoot=ft3 cubicInch=in3
VolumeFlowRate cubicMetrePerSecond=m3/s cubicMetrePerMinute=m3/min cubicMetrePerHour=m3/h litrePerSecond=l/s
VolumeFlowRate litrePerMinute=l/min litrePerHour=l/h millilitrePerSecond=ml/s millilitrePerMinute=ml/min
VolumeFlowRate millilitrePerHour=ml/h cubicFootPerMinute=ft3/min
"""

UNITS: Final[dict[str, tuple[str, str]]] = {
    name: (kind, symbol)
    for kind, *pairs in (line.split() for line in _TABLE.split("\n") if line)
    for name, symbol in (pair.split("=") for pair in pairs)
}
"""DTDL unit -> semantic type it goes with, our symbol."""

NAMES: Final[dict[str, str]] = {symbol: name for name, (_, symbol) in UNITS.items()} | {
    "1/min": "revolutionPerMinute", "Ω": "ohm", "°C": "degreeCelsius", "N m": "newtonMetre", "L": "litre",
}  # fmt: skip
"""Our symbol -> DTDL unit. Only what is written so: J and N*m are the same product and not the same thing."""

SHARES: Final = {"unity": "", "percent": "%", "partsPerMillion": "ppm"}
"""Units of shares: their semantic types say what the share is of, which we do not."""
