"""Small files in each format, made for these tests, and a device whose registers are read as the gateway reads them."""

from __future__ import annotations

import json

import pytest

from twinedge.drivers.modbus_decode import Extractor
from twinedge.drivers.modbus_fields import Scales, fields_of
from twinmodel.profile.importers.found import Wanted
from twinmodel.profile.importers.run import import_profiles
from twinmodel.profile.schema import kind_of
from twinmodel.signal import Signal

SUNSPEC = {
    "id": 64901,
    "group": {
        "name": "meter",
        "label": "Small Meter",
        "type": "group",
        "points": [
            {"name": "ID", "type": "uint16", "size": 1, "value": 64901, "static": "S"},
            {"name": "L", "type": "uint16", "size": 1, "static": "S"},
            {"name": "Mn", "type": "string", "size": 4, "label": "Maker"},
            {"name": "A", "type": "int16", "size": 1, "sf": "A_SF", "units": "A", "label": "Amps"},
            {"name": "A_SF", "type": "sunssf", "size": 1},
            {"name": "Wh", "type": "acc32", "size": 2, "units": "Wh", "sf": 1},
            {"name": "Tmp", "type": "float32", "size": 2, "units": "C"},
            {"name": "St", "type": "enum16", "size": 1, "symbols": [
                {"name": "OFF", "value": 1}, {"name": "ON", "value": 2}]},
            {"name": "Evt", "type": "bitfield32", "size": 2, "symbols": [{"name": "FAULT", "value": 0}]},
            {"name": "Mac", "type": "eui48", "size": 4},
            {"name": "Pad", "type": "pad", "size": 1},
        ],
        "groups": [
            {
                "name": "string",
                "count": 0,
                "points": [
                    {"name": "V", "type": "uint16", "size": 1, "sf": "V_SF", "units": "V", "access": "RW"},
                    {"name": "V_SF", "type": "sunssf", "size": 1},
                    {"name": "I", "type": "uint16", "size": 1, "sf": "A_SF", "units": "A"},
                ],
            },
        ],
    },
}  # fmt: skip
EDGEX = """\
name: Small-Press
manufacturer: ACME Ltd.
model: P 7
deviceResources:
  - name: Run
    attributes: {primaryTable: COILS, startingAddress: 3}
    properties: {valueType: Bool, readWrite: RW}
  - name: Trip
    attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 10.10}
    properties: {valueType: Bool, readWrite: R}
  - name: Heat
    description: of the oil
    attributes: {primaryTable: INPUT_REGISTERS, startingAddress: "5", rawType: Int16}
    properties: {valueType: Float32, readWrite: R, scale: 0.1, offset: -40, minimum: -40, maximum: 150, units: degC}
  - name: Count
    attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 20, isByteSwap: true, isWordSwap: "true"}
    properties: {valueType: UInt32, readWrite: R, units: strokes}
  - name: Mode
    attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 30}
    properties: {valueType: Int16, readWrite: RW}
  - name: Label
    attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 40, stringRegisterSize: 3}
    properties: {valueType: String, readWrite: R}
  - name: Setpoint
    attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 50}
    properties: {valueType: Int16, readWrite: W}
  - name: Masked
    attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 51}
    properties: {valueType: UInt16, readWrite: R, mask: 255}
  - name: Wide
    attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 52, isWordSwap: true}
    properties: {valueType: Int64, readWrite: R}
  - name: Remote
    attributes: {topic: a/b}
    properties: {valueType: Int64, readWrite: R}
  - name: Again
    attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 30}
    properties: {valueType: Int16, readWrite: R}
deviceCommands:
  - name: Values
    resourceOperations:
      - {deviceResource: Mode, mappings: {"0": Cool, "1": Heat}}
"""
TELEGRAF = """\
[[inputs.modbus]]
  name = "mill"
  slave_id = 2
  interval = "5s"
  discrete_inputs = [{ name = "start", address = [0] }]
  coils = [{ name = "run", address = [1] }]
  holding_registers = [
    { name = "torque", byte_order = "CDAB", data_type = "FLOAT32-IEEE", scale = 1.0, address = [4, 5] },
    { name = "speed", byte_order = "AB", data_type = "INT16", scale = 0.1, address = [6] },
    { name = "gap", byte_order = "ABCD", data_type = "INT32", scale = 1.0, address = [8, 10] },
  ]
  input_registers = [{ name = "text", byte_order = "BA", data_type = "STRING", address = [20, 21] }]

[[inputs.modbus]]
  name = "line"
  configuration_type = "request"
  [[inputs.modbus.request]]
    slave_id = 7
    byte_order = "DCBA"
    register = "holding"
    measurement = "drive"
    fields = [
      { address = 0, name = "energy", type = "INT64", scale = 0.01 },
      { address = 4, type = "UINT32", name = "", omit = true },
      { address = 6, name = "low", type = "UINT8L" },
    ]
    [inputs.modbus.request.tags]
      place = "hall"
  [[inputs.modbus.request]]
    slave_id = 8
    register = "coil"
    fields = [{ address = 3, name = "on" }, { address = 3, name = "again" }]

[[inputs.modbus]]
  name = "meter"
  configuration_type = "metric"
  [[inputs.modbus.metric]]
    slave_id = 1
    byte_order = "MSW-LE"
    fields = [
      { register = "input", address = 1, name = "bit", type = "BIT", bit = 3 },
      { register = "input", address = 2, name = "power", type = "FLOAT32", scale = 0.001 },
      { register = "input", address = 9, name = "odd", type = "UINT24" },
    ]
"""
THINGSBOARD = {
    "master": {
        "slaves": [
            {
                "deviceName": "Pump",
                "unitId": 2,
                "pollPeriod": 500,
                "wordOrder": "BIG",
                "timeseries": [
                    {"tag": "power", "type": "32float", "functionCode": 3, "objectsCount": 2, "address": 1},
                    {"tag": "flow", "type": "16int", "functionCode": 4, "objectsCount": 1, "address": 1, "divider": 8},
                    {"tag": "total", "type": "long", "functionCode": 4, "objectsCount": 4, "address": 10,
                     "byteOrder": "BIG"},
                    {"tag": "flags", "type": "bits", "functionCode": 1, "objectsCount": 3, "address": 0},
                    {"tag": "many", "type": "bits", "functionCode": 3, "objectsCount": 16, "address": 40},
                    {"tag": "alarm", "type": "bit", "functionCode": 3, "objectsCount": 1, "address": 41, "bit": 9},
                ],
                "attributes": [
                    {"tag": "name", "type": "string", "functionCode": 3, "objectsCount": 2, "address": 30},
                    {"tag": "wide", "type": "16uint", "functionCode": 3, "objectsCount": 2, "address": 50},
                ],
                "attributeUpdates": [
                    {"tag": "goal", "type": "16int", "functionCode": 6, "objectsCount": 1, "address": 60}
                ],
                "rpc": [{"tag": "ask", "type": "16uint", "functionCode": 3, "objectsCount": 1, "address": 61}],
            }
        ]
    }
}  # fmt: skip
VICTRON = """\
com.victronenergy.press,/Ac/L1/V,d,V AC,3,uint16,10,R
com.victronenergy.press,/Ac/L1/P,d,W,4,int16,-0.1,R
com.victronenergy.press,/Latitude,d,Decimal degrees,10,int32,10000000,R
com.victronenergy.press,/Mode,u,1=Charger Only;2=On,33,uint16,1,W
com.victronenergy.press,/Serial,s,,40,string[6],,R
com.victronenergy.press,RESERVED,,,50,reserved[2],,
com.victronenergy.press,/Light,d,lux,52,uint16,1,R
com.victronenergy.press,/Third,d,A,53,uint16,3,R
com.victronenergy.press,/Again,d,V,3,uint16,10,R
com.victronenergy.tank,/Level,d,%,3,uint16,1,R
com.victronenergy.tank,/Inside,d,%,2,uint32,1,R
com.victronenergy.tank,/Open,d,%,6,uint16,,R
"""
NODESET = """\
<?xml version="1.0" encoding="utf-8"?>
<UANodeSet xmlns="http://opcfoundation.org/UA/2011/03/UANodeSet.xsd">
  <NamespaceUris><Uri>http://acme.example/press/</Uri><Uri>http://opcfoundation.org/UA/DI/</Uri></NamespaceUris>
  <Aliases><Alias Alias="Double">i=11</Alias><Alias Alias="HasComponent">i=47</Alias></Aliases>
  <UADataType NodeId="ns=1;i=3001" BrowseName="1:Mode"><References>
    <Reference ReferenceType="HasSubtype" IsForward="false">i=29</Reference></References>
    <Definition Name="Mode"><Field Name="Idle" Value="0"/><Field Name="Busy" Value="1"/></Definition></UADataType>
  <UAObjectType NodeId="ns=1;i=1001" BrowseName="1:PressType"/>
  <UAObject NodeId="ns=1;i=5001" BrowseName="1:Oil/Tank" ParentNodeId="ns=1;i=1001"><References>
    <Reference ReferenceType="HasComponent">ns=1;i=6001</Reference></References></UAObject>
  <UAVariable NodeId="ns=1;i=6001" BrowseName="1:Heat" DataType="Double"><Description>of the oil</Description>
  </UAVariable>
  <UAVariable NodeId="ns=1;i=6002" BrowseName="EngineeringUnits" ParentNodeId="ns=1;i=6001" DataType="i=887"><Value>
    <ExtensionObject><Body><EUInformation><UnitId>4408652</UnitId><DisplayName><Text>°C</Text></DisplayName>
    </EUInformation></Body></ExtensionObject></Value></UAVariable>
  <UAVariable NodeId="ns=1;i=6003" BrowseName="EURange" ParentNodeId="ns=1;i=6001" DataType="i=884"><Value>
    <ExtensionObject><Body><Range><Low>-40</Low><High>150</High></Range></Body></ExtensionObject></Value></UAVariable>
  <UAVariable NodeId="ns=1;i=6004" BrowseName="1:Mode" ParentNodeId="ns=1;i=1001" DataType="ns=1;i=3001"/>
  <UAVariable NodeId="ns=1;i=6005" BrowseName="2:SerialNumber" ParentNodeId="ns=1;i=1001" DataType="String"/>
  <UAVariable NodeId="ns=1;i=6006" BrowseName="1:Forces" ParentNodeId="ns=1;i=1001" DataType="Float" ValueRank="1"
    ArrayDimensions="2" AccessLevel="3"/>
  <UAVariable NodeId="ns=1;i=6007" BrowseName="1:Curve" ParentNodeId="ns=1;i=1001" DataType="Float" ValueRank="1"/>
  <UAVariable NodeId="ns=1;i=6008" BrowseName="1:Goal" ParentNodeId="ns=1;i=1001" DataType="Float" AccessLevel="2"/>
  <UAVariable NodeId="ns=1;i=6009" BrowseName="1:&lt;Any&gt;" ParentNodeId="ns=1;i=1001" DataType="Float"/>
  <UAVariable NodeId="ns=1;i=6010" BrowseName="1:Picture" ParentNodeId="ns=1;i=1001" DataType="ByteString"/>
  <UAVariable NodeId="ns=1;i=6011" BrowseName="1:Built" ParentNodeId="ns=1;i=1001" DataType="DateTime"/>
  <UAVariable NodeId="ns=1;i=6012" BrowseName="1:Loose" ParentNodeId="i=85" DataType="Int32"/>
  <UAVariable NodeId="ns=1;i=6013" BrowseName="EnumStrings" ParentNodeId="ns=1;i=3001" DataType="LocalizedText"/>
  <UAVariable NodeId="ns=1;i=6014" BrowseName="1:Round" ParentNodeId="ns=1;i=6015" DataType="Int32"/>
  <UAVariable NodeId="ns=1;i=6015" BrowseName="1:And" ParentNodeId="ns=1;i=6014" DataType="Int32"/>
</UANodeSet>
"""
TABLE = """\
name;at;as;unit;scale;low;high;states;access;description
level;input 1;float32;m;;0;4;;R;of the tank
power;holding 3;int16;kW;10^@exp;;;;R;
exp;holding 4;int16;;;;;;R;
mode;holding 5;;;;;;0=off;1=on;RW;
state;holding 6;;;;;;"0=off;1=on";RW;
trip;discrete 1;;;;;;;R;
goal;holding 7;;;;;;;W;
odd;holding 0;;;;;;;R;
twice;holding 6;;;;;;;R;
warm;holding 8;int16;degX;;;;;R;
"""
SAMPLES = {
    "sunspec": ("model_64901.json", json.dumps(SUNSPEC), Wanted(base=100, counts={"string": 2})),
    "edgex": ("press.yaml", EDGEX, Wanted()),
    "telegraf": ("telegraf.conf", TELEGRAF, Wanted()),
    "thingsboard": ("modbus.json", json.dumps(THINGSBOARD), Wanted()),
    "victron": ("attributes.csv", VICTRON, Wanted()),
    "nodeset2": ("press.xml", NODESET, Wanted()),
    "csv": ("registers.csv", TABLE, Wanted(base=1)),
}


@pytest.fixture
def samples():
    """Format -> name of a file, its text, what to say beside it."""
    return SAMPLES


@pytest.fixture
def bring(tmp_path):
    """Imports a text as a file; of a format without a text, the sample."""

    def run(form, text=None, wanted=None, **options):
        name, sample, said = SAMPLES[form]
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else (sample if text is None else text).encode())
        done = import_profiles(form, path, said if wanted is None else wanted, **options)
        assert done.found == done.carried + len(done.refusals)
        return done

    return run


@pytest.fixture
def points_of(bring):
    """The points of the only profile of a text, and the reasons of what was refused, by name."""

    def run(form, text=None, wanted=None, **options):
        done = bring(form, text, wanted, **options)
        (one,) = done.profiles
        return one.settled.profile.points if one.settled else {}, {r.point: r.reason for r in one.refusals}

    return run


@pytest.fixture
def read():
    """What a gateway reads of a point: the reply to a read that begins at `start`, decoded by its Modbus driver."""

    def run(profile, name, raw, start=0):
        signals = {n: Signal(i, f"d.{n}", kind_of(p), p.unit) for i, (n, p) in enumerate(profile.points.items())}
        fields = fields_of(profile, signals)
        sources = set(fields[name].scale.points) if fields[name].scale else set()
        asked = [fields[point] for point in dict.fromkeys((name, *sources))]
        extractor, scales = Extractor(start, asked, sources), Scales()
        extractor.learn(raw, scales)
        for batch in extractor.decode(raw, 7, scales):
            for id_, value, quality in zip(
                batch.signal.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True
            ):
                if id_ == signals[name].id:
                    return value, quality
        raise AssertionError(name)

    return run
