"""Prints a `Form` as LLVM IR and compiles it to object code for this processor: the product's generated tier.

Every operation is printed plain, without a flag that would let LLVM contract, reorder or approximate it. Arrays do not
overlap and passes of a loop over lanes are independent; both are said, so that loops over lanes become vector code for
any number of lanes. Arguments: see `machine.ENTRY`.
"""

from __future__ import annotations

import importlib
import os
import struct
from typing import Any, Final

from twinmodel.kernel.generate.form import Form, Let, Loop, Statement, Store, Value

_TYPES: Final = {"f": "double", "i": "i64", "u": "i64", "b": "i1"}
_SHAPES: Final = {
    "neg": "fneg double {}", "not": "xor i1 {}, true", "bits": "bitcast double {} to i64",
    "real": "bitcast i64 {} to double", "truncate": "fptosi double {} to i64",
    "sqrt": "call double @llvm.sqrt.f64(double {})", "abs": "call double @llvm.fabs.f64(double {})",
}  # fmt: skip
_REAL: Final = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_WHOLE: Final = {"add": "add nsw", "sub": "sub nsw", "mul": "mul nsw", "shr": "ashr", "quotient": "sdiv"}
_BITS: Final = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "shr": "lshr",
    "shl": "shl",
    "and": "and",
    "or": "or",
    "xor": "xor",
}
_ORDERED: Final = {"lt": "olt", "gt": "ogt", "le": "ole", "ge": "oge", "eq": "oeq", "ne": "une"}
_SIGNED: Final = {"lt": "slt", "gt": "sgt", "le": "sle", "ge": "sge", "eq": "eq", "ne": "ne"}
_UNSIGNED: Final = {"lt": "ult", "gt": "ugt", "le": "ule", "ge": "uge", "eq": "eq", "ne": "ne"}


def print_ir(name: str, form: Form, arrays: str, numbers: tuple[str, ...]) -> str:
    """A module with one function `void name(ptr places, ptr sizes)`; arguments as for `c.print_c`."""
    read_only = {"I", "K", "M", "Z"}
    parameters = [f"ptr noalias {'readonly ' if a in read_only else ''}nocapture %{a}" for a in arrays]
    parameters += [f"i64 %{a}_" for a in arrays] + [f"i64 %{number}" for number in numbers]
    printer = _Printer()
    printer.block(form.body)
    entry = ["entry:"]
    given = []
    for kind, what, count in (("ptr", "places", len(arrays)), ("i64", "sizes", len(arrays) + len(numbers))):
        for k in range(count):
            entry.append(f"  %{what}_{k} = getelementptr inbounds {kind}, ptr %{what}, i64 {k}")
            entry.append(f"  %{what}{k} = load {kind}, ptr %{what}_{k}")
            given.append(f"{kind} %{what}{k}")
    entry += [f"  call void @{name}_body({', '.join(given)})", "  ret void"]
    lines = [
        "declare double @llvm.sqrt.f64(double)",
        "declare double @llvm.fabs.f64(double)",
        f"define internal void @{name}_body({', '.join(parameters)}) #0 {{",
        "entry:",
        *printer.lines,
        "  ret void",
        "}",
        f"define void @{name}(ptr %places, ptr %sizes) #1 {{",
        *entry,
        "}",
        'attributes #0 = { nounwind noinline "no-trapping-math"="true" "prefer-vector-width"="512" }',
        "attributes #1 = { nounwind }",
        *printer.notes,
        "",
    ]
    return "\n".join(lines)


class _Printer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self._block = "entry"
        self._names = 0
        self._group = ""

    def block(self, statements: list[Statement]) -> None:
        for statement in statements:
            match statement:
                case Let():
                    self._let(statement)
                case Store(array, index, value):
                    place = self._place(array, index)
                    self._emit(f"store double {_value(value)}, ptr {place}, align 8{self._group}")
                case Loop():
                    self._loop(statement)

    def _emit(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def _name(self) -> str:
        self._names += 1
        return f"t{self._names}"

    def _place(self, array: str, index: Value) -> str:
        name = self._name()
        kind = "i32" if array in "IK" else "double"
        self._emit(f"%{name} = getelementptr inbounds {kind}, ptr %{array}, i64 {_value(index)}")
        return f"%{name}"

    def _loop(self, loop: Loop) -> None:
        label = f"l{loop.index}"
        before = self._block
        self._emit(f"br label %{label}.head")
        self.lines.append(f"{label}.head:")
        self._emit(f"%{loop.index} = phi i64 [ 0, %{before} ], [ %{loop.index}.next, %{label}.latch ]")
        self._emit(f"%{label}.go = icmp slt i64 %{loop.index}, {_value(loop.count)}")
        self._emit(f"br i1 %{label}.go, label %{label}.body, label %{label}.end")
        self.lines.append(f"{label}.body:")
        self._block = f"{label}.body"
        note, group = "", self._group
        if loop.lanes:
            k = len(self.notes)
            self.notes += [
                f"!{k} = distinct !{{}}",
                f"!{k + 1} = distinct !{{!{k + 1}, !{k + 2}, !{k + 3}, !{k + 4}}}",
                f'!{k + 2} = !{{!"llvm.loop.parallel_accesses", !{k}}}',
                f'!{k + 3} = !{{!"llvm.loop.vectorize.enable", i1 true}}',
                f'!{k + 4} = !{{!"llvm.loop.unroll.disable"}}',
            ]
            note, self._group = f", !llvm.loop !{k + 1}", f", !llvm.access.group !{k}"
        self.block(loop.body)
        self._group = group
        self._emit(f"br label %{label}.latch")
        self.lines.append(f"{label}.latch:")
        self._emit(f"%{loop.index}.next = add nsw i64 %{loop.index}, 1")
        self._emit(f"br label %{label}.head{note}")
        self.lines.append(f"{label}.end:")
        self._block = f"{label}.end"

    def _let(self, let: Let) -> None:
        args = [_value(v) for v in let.args]
        kind = let.args[0].kind
        if let.op == "load":
            place = self._place(let.array, let.args[0])
            if let.kind == "f":
                self._emit(f"%{let.name} = load double, ptr {place}, align 8{self._group}")
            else:
                self._emit(f"%{let.name}.n = load i32, ptr {place}, align 4{self._group}")
                self._emit(f"%{let.name} = sext i32 %{let.name}.n to i64")
            return
        self._emit(f"%{let.name} = {_operation(let, kind, args)}")


def _operation(let: Let, kind: str, args: list[str]) -> str:
    if let.op in _SHAPES:
        return _SHAPES[let.op].format(*args)
    if let.op == "where":
        t = _TYPES[let.kind]
        return f"select i1 {args[0]}, {t} {args[1]}, {t} {args[2]}"
    if let.op in _ORDERED:
        table = {"f": _ORDERED, "i": _SIGNED, "u": _UNSIGNED}[kind]
        return f"{'fcmp' if kind == 'f' else 'icmp'} {table[let.op]} {_TYPES[kind]} {args[0]}, {args[1]}"
    table = {"f": _REAL, "i": _WHOLE, "u": _BITS, "b": _BITS}[kind]
    return f"{table[let.op]} {_TYPES[kind]} {args[0]}, {args[1]}"


def _value(value: Value) -> str:
    if value.constant is None:
        return f"%{value.name}"
    if value.kind == "f":
        return f"0x{struct.unpack('<Q', struct.pack('<d', value.constant))[0]:016X}"
    if value.kind == "b":
        return "true" if value.constant else "false"
    whole = int(value.constant)
    return str(whole - (1 << 64) if whole >= 1 << 63 else whole)


def compile_ir(text: str) -> bytes:
    """Object code of a module for this machine's processor, or the one NUMBA_CPU_NAME names."""
    llvm: Any = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = "" if os.environ.get("NUMBA_CPU_NAME") else llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default"
    )
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization, tuning.slp_vectorization = True, True
    builder = llvm.create_pass_builder(target, tuning)
    builder.getModulePassManager().run(module, builder)
    code: bytes = target.emit_object(module)
    return code
