# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What domains of images of galaxies have in common."""

import numpy as np

from galml.core.flags import Flag, outside_domain, with_flags
from galml.core.running import grouped
from galml.imaging.reading import REFERENCE, GalaxyImages, find_problems, read_images

__all__ = ["ImageDomain"]


class ImageDomain:
    """Images of galaxies: a `~galml.core.domain.Domain` without its answers.

    One of a kind has the method ``prepare_alike``, which prepares images of one shape
    and in the same bands, beside ``columns`` and ``answer``.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Whose network answers, and whose ``input_spec`` says what it is shown.

    Attributes
    ----------
    sizes : bool
        Whether effective radii are needed.
    flag_units : bool
        Whether images without a unit are flagged.
    flag_bands : bool
        Whether images without a band are flagged.
    least : mapping of `~galml.core.Flag` to tuple
        For each bit, the number about the images by which it is judged and the least
        one that is without it.
    """

    views = ()
    sizes, flag_units, flag_bands = True, False, True
    least = {}

    def __init__(self, model):
        self.model, self.spec = model, model.input_spec
        self.reference = self.spec.parameters.get("reference_wavelength", REFERENCE)

    def read(self, data, **options):
        """Read images of galaxies, see `~galml.imaging.read_images`."""
        return read_images(
            data,
            sizes=self.sizes,
            reference=self.reference,
            flag_units=self.flag_units,
            flag_bands=self.flag_bands,
            **options,
        )

    def problem(self, member):
        """Give for each galaxy the error why it cannot be used, or None."""
        return find_problems(member, self.reference, sizes=self.sizes)

    def kind(self, member):
        """Give what images have in common that are prepared together."""
        return member.kind

    def prepare(self, members):
        """Prepare images of any shapes and bands."""
        return grouped(
            members,
            self.kind,
            lambda group: self.prepare_alike(GalaxyImages.concatenate(group)),
        )

    def flags(self, answer, prepared, members):
        """Tell what happened to each image."""
        return with_flags(self.read_flags(members), self.states(answer, prepared))

    def read_flags(self, members):
        """Give what reading found."""
        return np.concatenate([member.flags for member in members])

    def states(self, answer, prepared):
        """Tell for each bit to which images it belongs."""
        scalars = prepared.scalars.numpy()
        states = {
            bit: scalars[:, self.spec.scalars.index(name)] < least
            for bit, (name, least) in self.least.items()
        }
        outside = outside_domain(scalars, self.model.config["domain"])
        return states | {Flag.OUT_OF_DOMAIN: outside}
