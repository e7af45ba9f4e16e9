"""Devices that train: what their data sheets say of arithmetic, memory, links and power.

Rates are dense, in 16 bits. Links count both directions, as data sheets do; what goes one way is half of that. Sources:
nvidia.com/en-us/data-center/{a100,h100,h200} and the data sheets of V100, L4, L40 and L40S, whose rates with sparsity
are twice those here. The network is that of the machines named below, or ours where cards come without one.
"""

from __future__ import annotations

from genus.errors import UsageError, near
from genus.part import Count, Part, Positive


class Device(Part):
    """A device, and the machine in which it is usually found."""

    flops: Positive
    """Dense FLOP/s of matrix products in 16 bits."""
    memory: Positive
    """Bytes of its memory."""
    bandwidth: Positive
    """Bytes/s between it and its memory."""
    link: Positive
    """Bytes/s between it and the other devices of its machine, both directions together."""
    network: Positive
    """Bytes/s between it and other machines, one direction: the machine's adapters, shared out among its devices."""
    watts: Positive
    """Its largest power."""
    machine: Count = 8
    """Devices of a machine."""
    names: tuple[str, ...] = ()
    """What PyTorch calls it, where its rate is that of bfloat16."""


A100_40GB = Device(
    flops=312e12, memory=40e9, bandwidth=1.555e12, link=600e9, network=25e9, watts=400.0,
    names=("NVIDIA A100-SXM4-40GB",),
)  # fmt: skip
"""The network: eight adapters of 200 Gbit/s for eight devices (Narayanan et al. 2021, arXiv:2104.04473, section 5)."""
H100 = Device(
    flops=989e12, memory=80e9, bandwidth=3.35e12, link=900e9, network=50e9, watts=700.0,
    names=("NVIDIA H100 80GB HBM3",),
)  # fmt: skip
"""The network: an adapter of 400 Gbit/s for each device (MLPerf Inference 4.1, systems of NVIDIA)."""
CARD = 12.5e9
"""Network of a device on a card: 100 Gbit/s, ours."""
PCIE_4, PCIE_5 = 64e9, 128e9
"""Links of 16 lanes, both directions."""

DEVICES = {
    # a machine is a DGX-2H: 16 devices, 8 adapters, 100 GB/s together (Shoeybi et al. 2019, section 5)
    "v100": Device(
        flops=125e12, memory=32e9, bandwidth=900e9, link=300e9, network=100e9 / 16, watts=300.0, machine=16
    ),  # in float16: it has no bfloat16
    "a100-40gb": A100_40GB,
    "a100": Device(
        flops=312e12, memory=80e9, bandwidth=2.039e12, link=600e9, network=25e9, watts=400.0,
        names=("NVIDIA A100-SXM4-80GB",),
    ),
    "a100-pcie-40gb": Device(
        flops=312e12, memory=40e9, bandwidth=1.555e12, link=PCIE_4, network=CARD, watts=250.0, machine=4,
        names=("NVIDIA A100-PCIE-40GB",),
    ),
    "a100-pcie": Device(
        flops=312e12, memory=80e9, bandwidth=1.935e12, link=PCIE_4, network=CARD, watts=300.0, machine=4,
        names=("NVIDIA A100 80GB PCIe",),
    ),
    "h100": H100,
    "h100-pcie": Device(
        flops=756e12, memory=80e9, bandwidth=2e12, link=PCIE_5, network=CARD, watts=350.0, machine=4,
        names=("NVIDIA H100 PCIe",),
    ),
    "h100-nvl": Device(
        flops=835e12, memory=94e9, bandwidth=3.9e12, link=600e9, network=CARD, watts=400.0, machine=2,
        names=("NVIDIA H100 NVL",),
    ),
    "h200": Device(
        flops=989e12, memory=141e9, bandwidth=4.8e12, link=900e9, network=50e9, watts=700.0, names=("NVIDIA H200",)
    ),
    "l4": Device(
        flops=121e12, memory=24e9, bandwidth=300e9, link=PCIE_4, network=CARD, watts=72.0, names=("NVIDIA L4",)
    ),
    "l40": Device(
        flops=181e12, memory=48e9, bandwidth=864e9, link=PCIE_4, network=CARD, watts=300.0, names=("NVIDIA L40",)
    ),
    "l40s": Device(
        flops=362e12, memory=48e9, bandwidth=864e9, link=PCIE_4, network=CARD, watts=350.0, names=("NVIDIA L40S",)
    ),
}  # fmt: skip
"""Devices by short name; of several forms, the bare name is that of the module with the fastest links."""


def find_device(name: str) -> Device:
    """Return a device by its short name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in DEVICES:
        raise UsageError(f"there is no device {name!r}.{near(name, list(DEVICES))} For another one, take the "
                         "nearest and state what differs, as in --assume device.memory=48e9")  # fmt: skip
    return DEVICES[name]


def known_as(name: str) -> Device | None:
    """Return the device that PyTorch calls so, where its rate in bfloat16 is known."""
    return next((device for device in DEVICES.values() if name in device.names), None)
