"""Write a model as C sources for firmware with TFLite Micro: text only, nothing is run here.

`model.c` and `example.c` are C11 without dependencies. `main.cc` is C++, because TFLite Micro has
no other interface; it compiles with the classes in the namespace `tflite` (until 2026) and in
`tflite::micro` (since).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgekit.errors import UsageError
from edgekit.records import Array

_PER_LINE: Final = 16
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_HEX: Final = [f"0x{byte:02x}" for byte in range(256)]
C_TYPES: Final[Mapping[str, str]] = {
    "bool": "bool",
    "float32": "float",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
}
"""Types of examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What is written.

    Attributes:
        name: Prefix of all names in the sources, in lower case.
        content: The model.
        arena_bytes: The arena to declare.
        registrations: Methods of `MicroMutableOpResolver` that add the model's operators.
        variables: Number of resource variables.
        inputs: An example of each input, in the file's order.
        outputs: What the model computes from them.
        comment: One line on what it was made of.
    """

    name: str
    content: bytes
    arena_bytes: int
    registrations: tuple[str, ...]
    variables: int
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    comment: str


def check_name(name: str) -> str:
    """Return a prefix that is an identifier in C.

    >>> check_name("wake_word")
    'wake_word'

    Raises:
        UsageError: It is not one.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r:.60} cannot be a prefix of names in C.",
            hint="Use lower-case letters, digits and _, beginning with a letter: --name model",
        )
    return name


def sources(package: Package) -> dict[str, str]:
    """Return file name -> text."""
    return {
        "model.h": _model_header(package),
        "model.c": _model(package),
        "example.h": _example_header(package),
        "example.c": _example(package),
        "resolver.h": _resolver(package),
        "main.cc": _main(package),
    }


def array_lines(data: bytes) -> Iterator[str]:
    """Yield the lines of an array of bytes.

    >>> list(array_lines(b"TFL3"))
    ['    0x54, 0x46, 0x4c, 0x33,']
    """
    for start in range(0, len(data), _PER_LINE):
        yield f"    {', '.join(_HEX[byte] for byte in data[start : start + _PER_LINE])},"


def _model_header(package: Package) -> str:
    name, upper = package.name, package.name.upper()
    return _lines(
        *_opening(package, f"{upper}_MODEL_H_"),
        "#include <stddef.h>",
        "",
        "/* Bytes of the tensor arena: a multiple of 16, to be aligned to 16. */",
        f"#define {upper}_ARENA_BYTES {package.arena_bytes}",
        f"#define {upper}_MODEL_BYTES {len(package.content)}",
        "",
        *_extern_c(f"extern const unsigned char {name}_data[{upper}_MODEL_BYTES];"),
        "",
        "#endif",
    )


def _model(package: Package) -> str:
    return _lines(
        '#include "model.h"',
        "",
        "/* TFLite Micro reads the weights in place, which takes this alignment. */",
        f"_Alignas(16) const unsigned char {package.name}_data[{package.name.upper()}_MODEL_BYTES]"
        " = {",
        *array_lines(package.content),
        "};",
    )


def _example_header(package: Package) -> str:
    declared = [
        f"extern const {_type_of(array)} {array_name}[{array.size}];"
        for array_name, array in _named(package)
    ]
    return _lines(
        *_opening(package, f"{package.name.upper()}_EXAMPLE_H_"),
        "#include <stdbool.h>",
        "#include <stdint.h>",
        "",
        *_extern_c(*declared),
        "",
        "#endif",
    )


def _example(package: Package) -> str:
    lines = ['#include "example.h"', ""]
    for array_name, array in _named(package):
        lines.append(f"const {_type_of(array)} {array_name}[{array.size}] = {{")
        values = [_literal(value) for value in array.reshape(-1)]
        lines += [
            f"    {', '.join(values[start : start + _PER_LINE])},"
            for start in range(0, len(values), _PER_LINE)
        ]
        lines += ["};", ""]
    return _lines(*lines[:-1])


def _resolver(package: Package) -> str:
    name = package.name
    count = len(package.registrations)
    return _lines(
        *_opening(package, f"{name.upper()}_RESOLVER_H_"),
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"',
        "",
        "namespace tflite { namespace micro {} }",
        "",
        f"namespace {name}_operators {{",
        "using namespace tflite;",
        "using namespace tflite::micro;",
        "",
        "/* Exactly the operators of the model. */",
        f"using Resolver = MicroMutableOpResolver<{count}>;",
        "",
        "inline bool Register(Resolver& resolver) {",
        *(
            f"  if (resolver.{method}() != kTfLiteOk) return false;"
            for method in package.registrations
        ),
        "  return true;",
        "}",
        f"}}  // namespace {name}_operators",
        "",
        "#endif",
    )


def _main(package: Package) -> str:
    name, upper = package.name, package.name.upper()
    return _lines(
        f"// {package.comment}",
        "// Runs the model on the stored example, and compares. Exit status 0: as expected.",
        "#include <cmath>",
        "#include <cstdint>",
        "#include <cstdio>",
        "#include <cstring>",
        "",
        '#include "example.h"',
        '#include "model.h"',
        '#include "resolver.h"',
        '#include "tensorflow/lite/micro/micro_interpreter.h"',
        *_variable_headers(package),
        '#include "tensorflow/lite/schema/schema_generated.h"',
        "",
        "namespace {",
        "using namespace tflite;",
        "using namespace tflite::micro;",
        "",
        f"alignas(16) uint8_t arena[{upper}_ARENA_BYTES];",
        "",
        "template <typename T>",
        "bool Near(const T* found, const T* expected, int count) {",
        "  return std::memcmp(found, expected, count * sizeof(T)) == 0;",
        "}",
        "",
        "// Floating point is summed in another order by other kernels.",
        "bool Near(const float* found, const float* expected, int count) {",
        "  for (int i = 0; i < count; ++i) {",
        "    const float slack = 1e-4f * (1.0f + std::fabs(expected[i]));",
        "    if (!(std::fabs(found[i] - expected[i]) <= slack)) return false;",
        "  }",
        "  return true;",
        "}",
        "",
        "int Failed(const char* what) {",
        '  std::printf("%s\\n", what);',
        "  return 1;",
        "}",
        "}  // namespace",
        "",
        "int main() {",
        f"  static {name}_operators::Resolver resolver;",
        f'  if (!{name}_operators::Register(resolver)) return Failed("an operator is missing");',
        *_interpreter(package),
        '  if (interpreter.AllocateTensors() != kTfLiteOk) return Failed("it does not load");',
        *(
            f"  std::memcpy(interpreter.input({index})->data.data, {name}_input_{index},"
            f" sizeof({name}_input_{index}));"
            for index in range(len(package.inputs))
        ),
        '  if (interpreter.Invoke() != kTfLiteOk) return Failed("it does not run");',
        *_comparisons(package),
        '  std::printf("as expected\\n");',
        "  return 0;",
        "}",
    )


def _variable_headers(package: Package) -> list[str]:
    names = ("micro_allocator", "micro_resource_variable") if package.variables else ()
    return [f'#include "tensorflow/lite/micro/{name}.h"' for name in names]


def _interpreter(package: Package) -> list[str]:
    model = f"GetModel({package.name}_data)"
    if not package.variables:
        return [f"  MicroInterpreter interpreter({model}, resolver, arena, sizeof(arena));"]
    return [
        "  MicroAllocator* allocator = MicroAllocator::Create(arena, sizeof(arena));",
        f"  auto* variables = MicroResourceVariables::Create(allocator, {package.variables});",
        f"  MicroInterpreter interpreter({model}, resolver, allocator, variables);",
    ]


def _comparisons(package: Package) -> Iterator[str]:
    for index, array in enumerate(package.outputs):
        kind = _type_of(array)
        yield (
            f"  if (!Near(static_cast<const {kind}*>(interpreter.output({index})->data.data), "
            f"{package.name}_output_{index}, {array.size}))"
        )
        yield f'    return Failed("output {index} differs");'


def _named(package: Package) -> Iterator[tuple[str, Array]]:
    for side, arrays in (("input", package.inputs), ("output", package.outputs)):
        for index, array in enumerate(arrays):
            yield f"{package.name}_{side}_{index}", array


def _type_of(array: Array) -> str:
    return C_TYPES[array.dtype.name]


def _literal(value: np.generic) -> str:
    """Return a value as C reads it back exactly.

    >>> _literal(np.float32(0.1)), _literal(np.int8(-128)), _literal(np.int64(-(2**63)))
    ('0x1.99999ap-4f', '-128', '(-9223372036854775807 - 1)')
    """
    if value.dtype == np.float32:
        return _float(float(value))
    number = int(value)
    if value.dtype == np.int64 and number == np.iinfo(np.int64).min:
        return f"({number + 1} - 1)"
    if value.dtype == np.int32 and number == np.iinfo(np.int32).min:
        return f"({number + 1} - 1)"
    return str(number)


def _float(number: float) -> str:
    if np.isnan(number):
        return "(0.0f / 0.0f)"
    if np.isinf(number):
        return "(1.0f / 0.0f)" if number > 0 else "(-1.0f / 0.0f)"
    mantissa, exponent = number.hex().split("p")
    mantissa = mantissa.rstrip("0") if "." in mantissa else mantissa
    return f"{mantissa}{'0' if mantissa.endswith('.') else ''}p{int(exponent)}f"


def _opening(package: Package, guard: str) -> list[str]:
    return [f"/* {package.comment} */", f"#ifndef {guard}", f"#define {guard}", ""]


def _extern_c(*lines: str) -> list[str]:
    opened = ["#ifdef __cplusplus", 'extern "C" {', "#endif"]
    return [*opened, *lines, "#ifdef __cplusplus", "}", "#endif"]


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def example_inputs(shapes: Sequence[tuple[tuple[int, ...], str]]) -> tuple[Array, ...]:
    """Return seeded random inputs: any code of 8 and 16 bits, floats in [0, 1), wider integers 0.

    Args:
        shapes: Shape and type of each input.
    """
    rng = np.random.default_rng(0)
    made: list[Array] = []
    for shape, name in shapes:
        dtype = np.dtype(name)
        if dtype.kind == "f":
            made.append(rng.random(shape).astype(dtype))
        elif dtype.kind in "iu" and dtype.itemsize <= 2:
            limits = np.iinfo(dtype)
            made.append(rng.integers(limits.min, limits.max, shape, dtype, endpoint=True))
        else:
            # Wider integers may be indices into a table of unknown length: 0 is always valid.
            made.append(np.zeros(shape, dtype))
    return tuple(made)
