"""Compiles every kernel for an H100 by Triton's compiler, which needs no GPU."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cpcdr.copy_paste import kernels as compositor
from cpcdr.loss import kernels as loss
from cpcdr.loss import point_kernels as points

SHARED = 227 * 1024
"""Bytes of shared memory that a block has on an H100."""
PIXELS: list[dict[str, Any]] = [{"PIXELS": 256}]
CHANNELS = (64, 128, 256)
ROWS = {"SAMPLES": 16, "CHANNELS": 128}
STORED = ({"similarity": "*i16"}, {"similarity": "*fp32"})
"""Similarities, see `cpcdr.loss.fused`. Below, text is the type of a pointer."""

LOSS = {
    loss.halves_kernel: [{"ROWS": 32, "CHANNELS": 128}],
    loss.similarity_kernel: [
        {"WIDE": wide, "ROWS": 128, "COLUMNS": 64, "INNER": 32, "CHANNELS": c} | stored
        for wide, stored in zip((1, 0), STORED, strict=True)
        for c in CHANNELS
    ],
    loss.columns_kernel: [
        {"FIRST": first, "ROWS": 2, "COLUMNS": 1024} | stored
        for first, stored in ((0, STORED[0]), (0, STORED[1]), (1, STORED[1]))
    ],
    loss.assign_kernel: [
        {"ROWS": 64, "COLUMNS": 32, "CHANNELS": c} | stored for stored in STORED for c in CHANNELS
    ],
    points.candidates_kernel: [{"POINTS": 64, "APPEARANCES": 8}],
    points.taps_kernel: [{"POINTS": 256}],
    points.scatter_kernel: [{"TAPS": taps} | ROWS for taps in (1, 4)],
    points.unit_rows_kernel: [{"TAPS": 4, "table": table} | ROWS for table in ("*bf16", "*fp32")],
    points.unit_rows_gradient_kernel: [{"TAPS": 4} | ROWS],
    points.difference_kernel: [ROWS],
    loss.prototype_gradient_kernel: [
        {"LIFT": 4096.0, "ROWS": 32, "COLUMNS": 128, "CHANNELS": c} | stored
        for stored in STORED
        for c in CHANNELS
    ],
}
COMPOSITOR = {
    compositor.halve_kernel: PIXELS,
    compositor.splat_kernel: [{"HEIGHT": 8, "WIDTH": 16}],
    compositor.shade_kernel: [{"OWN": 1e-3, "PIXELS": 256}],
    compositor.soften_kernel: PIXELS,
    compositor.convolve_kernel: [{"VERTICAL": axis, "PIXELS": 256} for axis in (0, 1)],
}
EXACT = (points.candidates_kernel, points.taps_kernel)
"""Launched without fused products and sums, as PyTorch's operations are."""
BYTES = ("texels", "appearance")
INTS = ("labels", "of_tile", "image", "frame", "region", "box", "ids", "texture", "visible")
INTS += ("columns", "rows")
LONGS = ("of", "preferred", "nearest", "ends", "which", "regions", "image_of")
"""Pointers by the type that they point to; all others point to float32."""
OF_KERNEL: dict[Any, dict[str, str]] = {
    compositor.shade_kernel: {"appearances": "*u8"},
    points.candidates_kernel: {"image": "*i64", "xy": "*i64", "images": "*i64"},
    points.taps_kernel: {"image": "*i64", "rows": "*i64"},
    points.scatter_kernel: {"rows": "*i64"},
    points.unit_rows_kernel: {"rows": "*i64"},
    points.unit_rows_gradient_kernel: {"rows": "*i64"},
    loss.prototype_gradient_kernel: dict.fromkeys(("features", "mean"), "*fp16"),
    loss.halves_kernel: dict.fromkeys(("high", "low"), "*fp16"),
    loss.similarity_kernel: dict.fromkeys(
        ("high", "low", "prototypes_high", "prototypes_low"), "*fp16"
    ),
}
"""What differs; bool is stored as bytes."""
OF_KERNEL[points.candidates_kernel] |= {"appearances": "*i64", "visible": "*i1"}
ALIGNED = ("stride", "channels")
"""Numbers that are multiples of 16, as Triton finds out when it launches a kernel."""
SCALARS = {
    **dict.fromkeys(("first", "last", "count", "each", "height", "width"), "i32"),
    **dict.fromkeys(ALIGNED, "i32"),
    **dict.fromkeys(
        ("known", "h", "w", "fine", "coarse", "fine_height", "fine_width", "taps"), "i32"
    ),
    **dict.fromkeys(
        ("inverse_epsilon", "inverse_temperature", "tiny", "scale_x", "scale_y"), "fp32"
    ),
}


def kind(name: str) -> str:
    """Triton's name of the type of a kernel's argument."""
    if name in SCALARS:
        return SCALARS[name]
    for names, pointer in ((BYTES, "*u8"), (INTS, "*i32"), (LONGS, "*i64")):
        if name in names:
            return pointer
    return "*fp32"


def compiled(kernel: Any, constants: dict[str, Any], warps: int) -> Any:
    types = {name: kind(name) for name in kernel.arg_names}
    pointers = {name: value for name, value in constants.items() if isinstance(value, str)}
    constants = {name: value for name, value in constants.items() if name not in pointers}
    types |= OF_KERNEL.get(kernel, {}) | pointers | dict.fromkeys(constants, "constexpr")
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    aligned = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]]
        for name, of in types.items()
        if of.startswith("*") or name in ALIGNED
    }
    options = {"num_warps": warps, "enable_fp_fusion": kernel in LOSS and kernel not in EXACT}
    source = ASTSource(kernel, types, places, aligned)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def usage(cubin: bytes) -> str:
    """Registers, and bytes of the stack, where registers are spilled to."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True)
    lines = [line.split() for line in said.stdout.splitlines() if "REG:" in line]
    return " ".join(lines[0][:2]) if lines else ""


for kernels in (LOSS, COMPOSITOR):
    for kernel, versions in kernels.items():
        for constants in versions:
            summed = kernel in (loss.assign_kernel, loss.prototype_gradient_kernel)
            warps = 8 if summed and constants["CHANNELS"] == 256 else 4  # as `fused` chooses
            made = compiled(kernel, constants, warps)
            shared = made.metadata.shared
            print(kernel.__name__, constants, f"{shared} bytes shared,", usage(made.asm["cubin"]))
            if shared > SHARED:
                sys.exit(f"{kernel.__name__} {constants}: {shared} bytes of shared memory")
