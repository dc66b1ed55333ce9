"""Encoding time of ONNX Runtime against eager torch: one thread, batches of 1 and 64, in one run.

    python benchmarks/onnx_export.py MODEL [--int8]

MODEL is a run or a saved encoder. Both sides encode the same random pixels in interleaved rounds and return packed
codes. Ratios above 1 mean that the exported file is faster.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.export.onnx_model import export_onnx
from brcd_lightning.deployment.export.onnx_runtime import OnnxRuntime
from brcd_lightning.deployment.export.parity import latencies, random_images
from brcd_lightning.deployment.export.quantisation import quantise
from brcd_lightning.distributed.threads import single_thread


def main() -> None:
    """Exports, measures, prints ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--role", default="student", choices=("student", "teacher"))
    parser.add_argument("--int8", action="store_true")
    args = parser.parse_args()
    encoder = HashEncoder.from_pretrained(args.model, role=args.role)
    images = random_images(encoder, 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(encoder, path)
        files = [OnnxRuntime(path)]
        if args.int8:
            quantise(path, path.with_suffix(".int8.onnx"), images.batches())
            files.append(OnnxRuntime(path.with_suffix(".int8.onnx")))
    with single_thread():
        own, *theirs = latencies(encoder, files, next(images.batches()))
    for number, plain in enumerate(own):
        print(f"batch {plain.batch:2}, eager torch : p50 {plain.p50:7.2f} ms, p95 {plain.p95:7.2f} ms")
        for file, times in zip(files, theirs, strict=True):
            p50, p95 = times[number].p50, times[number].p95
            print(
                f"batch {plain.batch:2}, {file.name:11}: p50 {p50:7.2f} ms, p95 {p95:7.2f} ms, {plain.p50 / p50:.1f}x"
            )


if __name__ == "__main__":
    main()
