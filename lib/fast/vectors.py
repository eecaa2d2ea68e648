"""Vector types and instructions for the compiler: a vector holds one number of each of several images.

A checker of types, which tests run under, would wrap these functions and be compiled in their place: `no_type_check`.
"""

from typing import no_type_check

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

FEATURES = binding.get_host_cpu_features()
_WIDE = bool(FEATURES.get("avx512f") and FEATURES.get("avx512vl"))
# Of float32 in a vector, and how many output channels a convolution computes at once: with 2×2 pixels each, as many sums as the
# processor has registers for (32, or 16 of which the operands need some).
LANES, TILE = (16, 4) if _WIDE else (8, 2)
UNITS = 8  # of a dense layer at once


def has_avx2() -> bool:
    """Whether this is an x86 processor with AVX2 and fused multiply-add, without which compiled vectors do not pay."""
    return bool(FEATURES.get("avx2") and FEATURES.get("fma"))


class Vector(types.Type):
    """The compiler's type of `lanes` numbers."""

    def __init__(self, element: types.Float, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(f"vector({element}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.element).get_value_type(), kind.lanes))


def _spread(builder, value, lanes):
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def _call(builder, name, result, *arguments):
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


def _integers(kind: ir.VectorType) -> ir.VectorType:
    return ir.VectorType(ir.IntType(32 if isinstance(kind.element, ir.FloatType) else 64), kind.count)


@no_type_check
@intrinsic(prefer_literal=True)
def registers(typing, v, n):
    """Room for n vectors such as v points to; indexed by constants alone they never leave the processor's registers."""

    def generate(context, builder, signature, arguments):
        room = cgutils.alloca_once(builder, ir.ArrayType(context.get_value_type(v.dtype), n.literal_value))
        return builder.bitcast(room, context.get_value_type(types.CPointer(v.dtype)))

    return types.CPointer(v.dtype)(v, n), generate


@no_type_check
@intrinsic
def spread(typing, v, number):
    """The vector, such as v points to, that holds `number` in each lane."""
    kind = v.dtype

    def generate(context, builder, signature, arguments):
        return _spread(builder, context.cast(builder, arguments[1], number, kind.element), kind.lanes)

    return kind(v, number), generate


@no_type_check
@intrinsic
def marked(typing, v, number):
    """The vector whose lanes hold the bits of the whole number `number`: a mark, never computed with."""
    kind = v.dtype

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(kind)
        bits = _integers(vector)
        integer = context.cast(builder, arguments[1], number, types.int32 if bits.element.width == 32 else types.int64)
        return builder.bitcast(_spread(builder, integer, kind.lanes), vector)

    return kind(v, number), generate


@no_type_check
@intrinsic
def muladd(typing, a, b, c):
    """a · b + c for vectors b and c, and a vector or a number a."""

    def generate(context, builder, signature, arguments):
        x, y, z = arguments
        if not isinstance(a, Vector):
            x = _spread(builder, context.cast(builder, x, a, b.element), b.lanes)
        return _call(builder, f"llvm.fmuladd.v{b.lanes}{z.type.element.intrinsic_name}", z.type, x, y, z)

    return c(a, b, c), generate


@no_type_check
@intrinsic
def add(typing, a, b):
    """a + b."""
    return a(a, b), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@no_type_check
@intrinsic
def greater(typing, a, b, x, y):
    """x where a > b, y elsewhere, lane by lane. A NaN is not greater."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered(">", arguments[0], arguments[1]), *arguments[2:])

    return x(a, b, x, y), generate


@no_type_check
@intrinsic
def beats(typing, a, b, x, y):
    """x where a > b or a is no number, y elsewhere: a NaN wins a pooling window and is not lost."""

    def generate(context, builder, signature, arguments):
        a, b, x, y = arguments
        wins = builder.or_(builder.fcmp_ordered(">", a, b), builder.fcmp_unordered("uno", a, a))
        return builder.select(wins, x, y)

    return x(a, b, x, y), generate


@no_type_check
@intrinsic
def rectified(typing, a):
    """max(a, 0); a NaN stays one."""

    def generate(context, builder, signature, arguments):
        zero = ir.Constant(arguments[0].type, None)
        return builder.select(builder.fcmp_ordered("<=", arguments[0], zero), zero, arguments[0])

    return a(a), generate


_LOOK_UP = {8: "llvm.x86.avx.vpermilvar.ps.256", 16: "llvm.x86.avx512.vpermilvar.ps.512"}


@no_type_check
@intrinsic
def chosen(typing, w, at, which):
    """In each lane that one of the four numbers from w[at] on which the mark `which`, 0 to 3, tells: one look-up."""

    def generate(context, builder, signature, arguments):
        numbers, at_, marks = arguments
        first = builder.gep(numbers, [at_])
        index = builder.bitcast(marks, _integers(marks.type))
        name = _LOOK_UP.get(which.lanes) if which.element == types.float32 else None
        if name and has_avx2():  # it looks up within each four lanes, so the four numbers are repeated for each
            four = builder.load(builder.bitcast(first, ir.VectorType(ir.FloatType(), 4).as_pointer()), align=4)
            repeated = ir.Constant(ir.VectorType(ir.IntType(32), which.lanes), list(range(4)) * (which.lanes // 4))
            return _call(builder, name, marks.type, builder.shuffle_vector(four, four, repeated), index)
        selected = ir.Constant(marks.type, None)
        for i in range(4):
            number = _spread(builder, builder.load(builder.gep(first, [ir.Constant(ir.IntType(64), i)])), which.lanes)
            matches = builder.icmp_signed("==", index, _spread(builder, ir.Constant(index.type.element, i), which.lanes))
            selected = builder.select(matches, number, selected)
        return selected

    return which(w, at, which), generate


@no_type_check
@intrinsic
def lanes_of(typing, v):
    """How many numbers the vectors hold that v points to."""
    n = v.dtype.lanes
    return types.int64(v), lambda context, builder, signature, arguments: ir.Constant(ir.IntType(64), n)
