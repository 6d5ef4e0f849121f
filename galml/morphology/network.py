# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The default network for morphology: tensors in, tensors out."""

import torch
from torch import nn

from galml.core.networks import trunk

__all__ = [
    "MIRRORED",
    "SIGNS",
    "Members",
    "MorphologyNet",
    "Surroundings",
    "mirrored",
    "project",
]

#: Axes along which images are mirrored that lie along their major axis.
MIRRORED = ((), (-1,), (-2,), (-1, -2))
#: Signs of each kind of latent in these mirrors: of the morphology, of what has a
#: handedness, and of what differs between left and right, and between top and bottom.
SIGNS = ((1, 1, 1, 1), (1, -1, -1, 1), (1, -1, 1, -1), (1, 1, -1, -1))
#: Joint features of image and numbers.
FEATURES = 192
#: Scatters from the mean beyond which latents grow as a logarithm.
FAR = 4.0
#: Scatter of the latents of the surroundings, beside those of the morphology; and sides
#: of what they see as one cell.
AROUND, COARSE = 0.25, 2


class MorphologyNet(nn.Module):
    """Latents of a prepared image, and what they say the image looks like.

    The image is turned beforehand so that the major axis lies along x. Latents of the
    four mirror images that leave it there are brought together with all combinations of
    signs: those of the morphology are the same for all mirror images, and the others,
    of the pose, change their signs.

    Parameters
    ----------
    channels, scalars : int
        Planes of the image, and numbers about it.
    widths : sequence of int
        Channels of the convolutions at 32, 16, 8 and 4 cells.
    latents : int
        Latents of the morphology.
    poses : sequence of int
        Latents of the pose: of handedness, left to right and top to bottom.
    planes : int
        Planes that are drawn: brightness in the reference, blue and red band.
    properties : int
        Parameters of mocks that latents of the morphology must tell in the training.
    surroundings : int
        Latents of what is around the galaxy, which follow those of the morphology: they
        draw nothing, and have a network of their own, see `Surroundings`.

    Attributes
    ----------
    widths : tuple of int
        Number of latents, and of the pose.
    axes, inverse : `torch.Tensor`
        Shape (latents, latents): from the latents that the training works with, which
        all scatter by one, to those that `features` gives, and back; see `turn`.
    """

    def __init__(
        self,
        channels=8,
        scalars=23,
        widths=(20, 40, 72, 104),
        latents=32,
        poses=(4, 2, 2),
        planes=3,
        properties=1,
        surroundings=0,
    ):
        super().__init__()
        self.sizes = (latents, *poses)
        self.widths = latents + surroundings, sum(poses)
        self.surroundings = Surroundings(surroundings) if surroundings else None
        _, b, c, d = widths
        self.register_buffer("mean", torch.zeros(scalars))
        self.register_buffer("spread", torch.ones(scalars))
        self.trunk = nn.Sequential(
            *trunk(channels, widths),
            nn.Flatten(),
            nn.Linear(16 * d, FEATURES),
            nn.ReLU(),
        )
        self.numbers = nn.Sequential(
            nn.Linear(scalars, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU()
        )
        self.joint = nn.Sequential(nn.Linear(FEATURES + 48, FEATURES), nn.ReLU())
        self.latent = nn.Linear(FEATURES, sum(self.sizes))
        # Latents of the morphology scatter by one.
        self.unit = nn.BatchNorm1d(latents, affine=False)
        self.scatter = nn.Linear(FEATURES, latents)
        self.properties = nn.Linear(latents, properties)
        # Parity of what winds, such as arms.
        self.winding = nn.Linear(poses[0], 1, bias=False)
        for name in ("axes", "inverse"):
            self.register_buffer(name, torch.eye(latents))
        self.start = nn.Sequential(
            nn.Linear(sum(self.sizes), FEATURES),
            nn.ReLU(),
            nn.Linear(FEATURES, 16 * d),
            nn.Unflatten(1, (d, 4, 4)),
            nn.ReLU(),
        )
        self.draw = nn.Sequential(
            _up(d, d),
            _up(d, c),
            _up(c, b),
            nn.Conv2d(b, 4 * planes, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def encode(self, image, scalars):
        """Give raw latents and logarithms of their scatter from one view of images.

        Parameters
        ----------
        image, scalars : `torch.Tensor`
            Shape (n, channels, 64, 64) and (n, scalars).

        Returns
        -------
        raw : `torch.Tensor`
            Shape (n, latents + poses), see `project`.
        scatter : `torch.Tensor`
            Shape (n, latents).
        """
        numbers = self.numbers((scalars - self.mean) / self.spread)
        joint = self.joint(torch.cat([self.trunk(image), numbers], 1))
        latent, pose = self.latent(joint).tensor_split([self.sizes[0]], 1)
        latent = FAR * torch.asinh(self.unit(latent) / FAR)
        raw = torch.cat([latent, pose], 1)
        return raw, self.scatter(joint).clamp(-6, 3)

    def features(self, inputs):
        """Give latents and pose, without drawing the image; see `forward`."""
        image, scalars = inputs["image"], inputs["scalars"]
        raw, scatter = self.encode(_mirror_images(image), scalars.repeat(4, 1))
        raw, scatter = raw.unflatten(0, (4, -1)), scatter.unflatten(0, (4, -1))
        latent, pose = project(raw, self.sizes, torch.arange(4)[:, None])
        latent = latent @ self.axes.T
        variance = (2 * scatter.mean(0)).exp()
        scatter = (variance @ self.axes.T.square()).sqrt()
        if self.surroundings is not None:
            around = self.surroundings.of_all_views(inputs["surroundings"])
            latent = torch.cat([latent, around], 1)
            scatter = torch.cat([scatter, torch.ones_like(around)], 1)
        return {"latent": latent, "pose": pose, "latent_scatter": scatter}

    def turn(self, least):
        """Order latents by how much they tell of the parameters of mocks.

        The latents that the network gives from now on lie along the principal axes of
        the parameters that it tells, and scatter as much as these do, but at least by
        some number. Galaxies with other parameters are then far from each other.

        Parameters
        ----------
        least : float
            Smallest scatter of a latent.
        """
        weight = self.properties.weight.detach().double()
        _, scatter, rows = torch.linalg.svd(weight)
        scale = torch.full(
            (len(rows),), least, dtype=torch.float64, device=weight.device
        )
        scale[: len(scatter)] = torch.hypot(scatter, scale[: len(scatter)])
        self.axes.copy_(scale[:, None] * rows)
        self.inverse.copy_(rows.T / scale)

    def forward(self, inputs):
        """Evaluate the network.

        Parameters
        ----------
        inputs : dict of str to `torch.Tensor`
            ``image`` (n, channels, 64, 64) and ``scalars`` (n, scalars), and, if it has
            latents of them, ``surroundings`` (n, 3, 64, 64). With ``other_image`` it
            does what `compare` does.

        Returns
        -------
        dict of str to `torch.Tensor`
            ``latent`` (n, latents), their ``latent_scatter``, ``pose`` (n, poses) and
            ``planes`` (n, planes, 64, 64), what these draw.
        """
        if "other_image" in inputs:
            return self.compare(inputs)
        outputs = self.features(inputs)
        return outputs | {"planes": self.decode(outputs["latent"], outputs["pose"])}

    def compare(self, inputs):
        """Evaluate pairs of images of galaxies, as the training needs it.

        Parameters
        ----------
        inputs : dict of str to `torch.Tensor`
            ``image`` and ``scalars``, and ``other_image`` and ``other_scalars`` of the
            same galaxies; ``mirror`` (n,), index into `MIRRORED`, of the mirror image
            from which pose and morphology are told apart, by default the last one.

        Returns
        -------
        dict of str to `torch.Tensor`
            ``latent`` and ``other`` (n, latents) of both images, with ``log_scatter``
            and ``other_log_scatter``; ``properties`` (2, n, properties) told from both,
            and ``winding`` (n,) from the pose of the first image;
            and ``planes`` as the pose of the first image and the morphology of one of
            both, in turns, draw them.
        """
        image, scalars = inputs["image"], inputs["scalars"]
        n = len(image)
        last = torch.full((n,), len(MIRRORED) - 1, device=image.device)
        second = inputs.get("mirror", last)
        views = torch.cat([image, mirrored(image, second), inputs["other_image"]])
        numbers = torch.cat([scalars, scalars, inputs["other_scalars"]])
        raw, scatter = self.encode(views, numbers)
        places = torch.stack([torch.zeros_like(second), second])
        latent, pose = project(raw[: 2 * n].unflatten(0, (2, n)), self.sizes, places)
        other = raw[2 * n :, : self.sizes[0]]
        turn = torch.arange(n, device=image.device)[:, None] % 2
        return {
            "latent": latent,
            "other": other,
            "log_scatter": (scatter[:n] + scatter[n : 2 * n]) / 2,
            "other_log_scatter": scatter[2 * n :],
            "properties": self.properties(torch.stack([latent, other])),
            "winding": self.winding(pose[:, : self.sizes[1]])[:, 0],
            "planes": self._drawn(torch.where(turn == 0, latent, other), pose),
        }

    def decode(self, latent, pose=None):
        """Draw images from latents.

        Parameters
        ----------
        latent : `torch.Tensor`
            Shape (n, latents); those of the surroundings may be missing.
        pose : `torch.Tensor`, optional
            Shape (n, poses); 0 by default.

        Returns
        -------
        `torch.Tensor`
            Shape (n, planes, 64, 64), stretched as the planes of the input are.
        """
        if pose is None:
            pose = latent.new_zeros(len(latent), sum(self.sizes[1:]))
        return self._drawn(latent[:, : self.sizes[0]] @ self.inverse.T, pose)

    def _drawn(self, latent, pose):
        """Draw images from latents of the training."""
        return self.draw(self.start(torch.cat([latent, pose], 1)))


class Surroundings(nn.Module):
    """Latents of what is around a galaxy, such as another one.

    Some networks learn from mocks how galaxies interact, and others from observed
    galaxies what two in contact look like.

    Parameters
    ----------
    latents : int
        Their number, of which three quarters are those of the first networks.
    """

    def __init__(self, latents):
        super().__init__()
        pasted = latents // 4
        self.interacting = Members(latents - pasted, answers=9)
        self.pasted = Members(pasted, answers=1)

    def of_all_views(self, image):
        """Map images (n, 3, 64, 64) to latents that are the same for mirror images."""
        views = _mirror_images(image)
        latent = [part(views)["latent"].flatten(1) for part in self.children()]
        return AROUND * torch.cat(latent, 1).unflatten(0, (4, -1)).mean(0)


class Members(nn.Module):
    """Small networks that see surroundings in coarse cells, and learn the same.

    Details, and what one network alone holds to, are more of the training than of the
    sky.

    Parameters
    ----------
    latents : int
        Their number, a multiple of that of the networks.
    answers : int
        Numbers that the latents of each network must tell, linearly, in the training.
    members : int
        Number of networks.
    channels : int
        Planes of the image.
    widths : sequence of int
        Channels of the convolutions at 16, 8 and 4 cells.
    """

    def __init__(self, latents, answers, members=4, channels=3, widths=(16, 32, 56)):
        super().__init__()
        self.members = nn.ModuleList(
            _Member(latents // members, channels, widths, answers)
            for _ in range(members)
        )

    def forward(self, image):
        """Evaluate one view of images.

        Parameters
        ----------
        image : `torch.Tensor`
            Shape (n, channels, 64, 64).

        Returns
        -------
        dict of str to `torch.Tensor`
            ``latent`` (n, members, latents / members), which scatter by one, and
            ``answers`` (n, members, answers).
        """
        image = nn.functional.avg_pool2d(image, COARSE)
        parts = [member(image) for member in self.members]
        return {key: torch.stack([part[key] for part in parts], 1) for key in parts[0]}


class _Member(nn.Module):
    """One network of `Members`."""

    def __init__(self, latents, channels, widths, answers):
        super().__init__()
        self.trunk = nn.Sequential(
            *trunk(channels, widths),
        )
        self.latent = nn.Linear(3 * widths[-1], latents)
        self.unit = nn.BatchNorm1d(latents, affine=False)
        self.answers = nn.Linear(latents, answers)

    def forward(self, image):
        """Map images to latents and answers."""
        image = self.trunk(image)
        middle = image[:, :, 1:-1, 1:-1].mean((2, 3))
        pooled = [image.mean((2, 3)), image.amax((2, 3)), middle]
        latent = self.latent(torch.cat(pooled, 1))
        latent = FAR * torch.asinh(self.unit(latent) / FAR)
        return {"latent": latent, "answers": self.answers(latent)}


def project(raw, sizes, mirrors):
    """Bring raw latents of mirror images together.

    Parameters
    ----------
    raw : `torch.Tensor`
        Shape (views, n, latents + poses).
    sizes : sequence of int
        Number of latents of the morphology, and of each kind of pose.
    mirrors : `torch.Tensor`
        Which of `MIRRORED` the views are: shape (views, n) or (views, 1).

    Returns
    -------
    latent, pose : `torch.Tensor`
        Shape (n, latents) and (n, poses).
    """
    parts = []
    for part, signs in zip(raw.split(sizes, -1), SIGNS, strict=True):
        sign = part.new_tensor(signs)[mirrors.to(part.device)]
        parts.append((part * sign[..., None]).mean(0))
    return parts[0], torch.cat(parts[1:], 1)


def mirrored(image, place):
    """Mirror each image its own way.

    Parameters
    ----------
    image : `torch.Tensor`
        Shape (n, channels, y, x).
    place : `torch.Tensor`
        Shape (n,): index into `MIRRORED`.

    Returns
    -------
    `torch.Tensor`
        The same shape.
    """
    result = image.clone()
    for index, axes in enumerate(MIRRORED):
        rows = place == index
        if axes:
            result[rows] = image[rows].flip(axes)
    return result


def _mirror_images(image):
    """Give all mirror images, one after the other."""
    return torch.cat([image.flip(axes) if axes else image for axes in MIRRORED])


def _up(inputs, outputs):
    """Double the size of feature maps."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
