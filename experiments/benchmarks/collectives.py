"""The collectives of a compiled program, read out of its HLO text, and the arithmetic that may run beside each."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter")

_INSTRUCTION = re.compile(
    r"\s+(?:ROOT )?%(?P<name>\S+) = (?P<shape>\(.*?\)|\S+) (?P<opcode>[\w-]+)\((?P<operands>[^)]*)\)(?P<rest>.*)"
)
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%([\w.-]+)")
_CONTROL = re.compile(r"control-predecessors=\{([^}]*)\}")


class Array(NamedTuple):
    """Type of an array as HLO writes it: "f32", "u16", ..., and its shape."""

    dtype: str
    shape: tuple[int, ...]


class Instruction(NamedTuple):
    """One line of a program: its result's arrays (several for a tuple), and the names that it depends on."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    rest: str  # attributes


class Collective(NamedTuple):
    """One exchange between devices.

    elements, dtype: of the whole array, which each device has before an all-to-all or reduce-scatter, after an
        all-gather, before and after an all-reduce; of the first array where several travel together.
    size: bytes of all of it. sent: bytes that each device sends, a sum being made by a ring.
    free: floating-point operations of convolutions and products that neither lead to it nor follow from it, so that
        they could run at the same time; left: those of them that the schedule puts after it.
    """

    name: str
    kind: str
    dtype: str
    elements: int
    size: int
    sent: float
    free: int
    left: int


def parse(text: str) -> tuple[str, dict[str, list[Instruction]]]:
    """The entry's name, and the instructions of each computation in the order in which they are written."""
    computations: dict[str, list[Instruction]] = {}
    entry = ""
    for line in text.splitlines():
        if line.endswith("{") and (header := re.match(r"(ENTRY )?%?([\w.-]+) \(", line)):
            entry = header[2] if header[1] else entry
            inside = computations.setdefault(header[2], [])
        elif found := _INSTRUCTION.match(re.sub(r"/\*.*?\*/", "", line)):
            arrays = tuple(
                Array(dtype, tuple(map(int, filter(None, sides.split(",")))))
                for dtype, sides in _ARRAY.findall(found["shape"])
            )
            before = found["operands"] + "".join(_CONTROL.findall(found["rest"]))
            operands = tuple(re.findall(r"%([\w.-]+)", before))
            inside.append(Instruction(found["name"], found["opcode"], arrays, operands, found["rest"]))
    return entry, computations


def collectives(text: str) -> list[Collective]:
    """The collectives of a program's entry, in the order of its schedule; text: ``compiled.as_text()`` of the CPU."""
    entry, computations = parse(text)
    program = computations[entry]
    work = [_operations(instruction, program, computations) for instruction in program]
    leads_to = _ancestors(program)
    found = []
    for at, instruction in enumerate(program):
        if instruction.opcode not in KINDS:
            continue
        beside = [
            i
            for i, operations in enumerate(work)
            if operations and not (leads_to[at] >> i & 1) and not (leads_to[i] >> at & 1)
        ]
        devices = _group(instruction.rest)
        whole = devices if instruction.opcode == "reduce-scatter" else 1
        size = whole * sum(map(array_bytes, instruction.arrays))
        found.append(
            Collective(
                *(instruction.name, instruction.opcode, instruction.arrays[0].dtype),
                elements=whole * sum(math.prod(array.shape) for array in instruction.arrays),
                size=size,
                sent=(2 if instruction.opcode == "all-reduce" else 1) * size * (devices - 1) / devices,
                free=sum(work[i] for i in beside),
                left=sum(work[i] for i in beside if i > at),
            )
        )
    return found


def array_bytes(array: Array) -> int:
    """Bytes of an array; a truth value takes one."""
    bits = re.search(r"\d+", array.dtype)
    return math.prod(array.shape) * (int(bits[0]) // 8 if bits else 1)


def total_operations(text: str) -> int:
    """Floating-point operations of all convolutions and products of a program's entry; a loop's body counts once."""
    entry, computations = parse(text)
    return sum(_operations(instruction, computations[entry], computations) for instruction in computations[entry])


def _operations(
    instruction: Instruction, program: Sequence[Instruction], computations: dict[str, list[Instruction]]
) -> int:
    """Of a convolution or product itself, and of whatever an instruction calls; padding counts as values."""
    if instruction.opcode in ("dot", "convolution"):
        operands = {other.name: other.arrays[0].shape for other in program if other.name in instruction.operands}
        left, right = (operands[name] for name in instruction.operands[:2])
        if instruction.opcode == "dot":
            contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)[1]
            summed = math.prod(left[int(side)] for side in contracted.split(",") if side)
        else:
            kernel = re.search(r"dim_labels=\w+_(\w+)->", instruction.rest)[1]
            summed = math.prod(right) // right[kernel.index("o")]
        return 2 * math.prod(instruction.arrays[0].shape) * summed
    called = (computations[name] for name in _CALLED.findall(instruction.rest))
    return sum(_operations(inner, inside, computations) for inside in called for inner in inside)


def _ancestors(program: Sequence[Instruction]) -> list[int]:
    """For each instruction those that lead to it, itself among them, as the bits of a number."""
    position = {instruction.name: i for i, instruction in enumerate(program)}
    leads_to: list[int] = []
    for i, instruction in enumerate(program):  # operands are written before what uses them
        bits = 1 << i
        for name in instruction.operands:
            bits |= leads_to[position[name]]
        leads_to.append(bits)
    return leads_to


def _group(rest: str) -> int:
    """How many devices exchange.

    As XLA writes it: replica_groups={{0,1},{2,3}}, or [2,2]<=[4] for two groups of two, or mesh['a'=2,'b'=4] {'b'} for
    groups along axes of a mesh.
    """
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(listed[1].split(","))
    if tiled := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(tiled[1])
    sizes, axes = re.search(r"replica_groups=mesh\[([^]]*)\] \{([^}]*)\}", rest).groups()
    of_axis = dict(re.findall(r"'(\w+)'=(\d+)", sizes))
    return math.prod(int(of_axis[axis]) for axis in re.findall(r"'(\w+)'", axes))
