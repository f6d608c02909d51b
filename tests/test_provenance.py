"""What the processor is called in the records of trainings and benchmarks."""

import platform

import pytest

from resnetlib import provenance


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("model name\t: Some 7\nflags\t\t: fpu avx2 avx512f\n\n" * 2, "Some 7 (AVX2, AVX-512)"),
        ("model name\t: Some 7\nflags\t\t: avx512_bf16 fpu avx2\n", "Some 7 (AVX2, bfloat16)"),
        ("model name\t: Old: 1\nflags\t\t: fpu sse2\n", "Old: 1"),
        ("processor\t: 0\nFeatures\t: fp asimd\n", platform.machine()),
    ],
)
def test_a_processor_is_named_with_its_instructions(lines, name, tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text(lines)
    assert provenance.processor(info) == name
