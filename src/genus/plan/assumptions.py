"""What a plan takes for granted: the devices, how numbers are stored, and how fast devices are in practice."""

from __future__ import annotations

from genus.devices import Device
from genus.part import AtLeastOne, Count, Fraction, Natural, NotNegative, Part, Share, SomeShare


class Storage(Part):
    """Bytes of each number; the defaults are those of training in bfloat16 autocast with float32 weights."""

    weights: Count = 4
    casts: Natural = 2
    """Copies of the weights in 16 bits, which autocast makes for a forward pass and keeps for the backward pass."""
    gradients: Count = 4
    master: Natural = 0
    """Weights in float32 beside those in 16 bits, which the optimizer updates."""
    moments: Count = 4
    """Of each moment of the optimizer."""
    activations: Count = 2


AUTOCAST = Storage()
MIXED = Storage(weights=2, casts=0, gradients=2, master=4)
"""2 + 2 + 12 bytes a parameter with Adam (Rajbhandari et al. 2020, ZeRO, section 3.1)."""
FLOAT32 = Storage(casts=0, activations=4)


class Assumptions(Part):
    """Devices, and how they are used."""

    device: Device
    count: Count = 1
    """Number of devices."""
    storage: Storage = AUTOCAST
    efficiency: SomeShare = 0.44
    """Share of a device's peak that it reaches while it computes; 44 % for 1.7 billion parameters on one A100
    (Narayanan et al. 2021, arXiv:2104.04473, table 1). Small models and micro-batches reach less."""
    overlap: Share = 0.0
    """Share of the exchange of weights and gradients that is hidden behind computation."""
    reserve: Fraction = 0.1
    """Share of the memory that is left for the driver, for buffers and for gaps; ours."""
    overhead: AtLeastOne = 1.1
    """Energy of the building, as a multiple of that of the devices (power usage effectiveness); ours."""
    price: NotNegative | None = None
    """Cost of a device for an hour, in any currency; None: not told."""

    @property
    def memory(self) -> float:
        """Bytes of a device that a run may fill."""
        return (1 - self.reserve) * self.device.memory
