# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From images of any size and any bands to aligned stamps and numbers about them.

An image is averaged over area onto a grid in units of the effective radius, cleared of
its sky, and turned so that the major axis of its light lies along x. Of its bands the
one nearest to a reference shows the shape; one bluer and one redder band, where there
are any, add their own light or maps of color. Networks see these, and numbers.
"""

import math
from dataclasses import dataclass

import torch

from galml.imaging import features
from galml.imaging.stamps import (
    Grid,
    align,
    as_tensor,
    flux_scale,
    galaxy_centers,
    lies_inside,
    measure_noise,
    regrid,
    sky_level,
)
from galml.imaging.stretch import asinh_stretch, box_mean

__all__ = [
    "PARAMETERS",
    "SCALARS",
    "STRETCH",
    "Prepared",
    "bands_shown",
    "prepare",
]

#: Numbers about an image, numbers of the scale of brightness, and all others that the
#: preparation works with, as a specification needs them. Radii and widths are in
#: effective radii.
SCALARS = (
    "log_snr",
    "log_pixels",
    "has_psf",
    "log_psf",
    "wavelength",
    "calibrated",
    "has_blue",
    "blue_wavelength",
    "blue_log_snr",
    "blue_color",
    "blue_gradient",
    "has_red",
    "red_wavelength",
    "red_log_snr",
    "red_color",
    "red_gradient",
    "concentration",
    "growth",
    "axis_ratio_inner",
    "axis_ratio",
    "twist",
    "asymmetry",
    "coverage",
)
STRETCH = {
    # Brightness in units of that inside the effective radius, and in errors.
    "shape_softening": 0.05,
    "shape_scale": 3.0,
    "significance_softening": 2.0,
    "significance_scale": 3.0,
    # Contrast to the mean of a neighborhood.
    "contrast_cells": 9,
    "contrast_noise": 2.0,
    "contrast_light": 0.2,
    "contrast_floor": 0.02,
    "contrast_scale": 2.0,
    # Colors in magnitudes, that are linear where there is no signal.
    "color_cells": 3,
    "color_softening": 2.0,
    "color_snr": 3.0,
    "color_largest": 1.5,
    "largest": 6.0,
    "smallest_error": 1e-3,
}
PARAMETERS = {
    # Cells of the grid before it is turned: it holds the image at any angle.
    "wide_cells": 72,
    # Share of a cell that must be known, before and after the image is turned.
    "least_known": 0.1,
    "least_shown": 0.1,
    # In micron; and how near, in relative wavelength, bands show no color.
    "reference_wavelength": 0.617,
    "blue_wavelength": 0.470,
    "red_wavelength": 0.770,
    "nearest_band": 0.07,
    "sky_radius": 3.3,
    "sky_share": 0.85,
    "noise_lag": 6,
    "noise_clip": 2.5,
    "noise_rounds": 6,
    "noise_clipped_variance": 0.9113,
    "unit_noise": 0.3,
    "light_inner": 0.4,
    "light_middle": 1.0,
    "light_outer": 2.0,
    "shape_inner": 0.5,
    "shape_outer": 1.5,
    "flattest_shape": 0.98,
    "roundest_shape": 1e-5,
    "lowest_snr": 0.1,
    "highest_snr": 1e4,
    "ratio_light": 0.1,
    "ratio_noise": 1e-3,
    "lowest_concentration": -1.0,
    "highest_concentration": 2.0,
    "largest_growth": 1.0,
    "largest_color": 4.0,
    "gradient_light": 0.05,
    "largest_gradient": 1.0,
    "narrowest_psf": 0.01,
    "widest_psf": 10.0,
    "smallest_radius": 0.1,
    "asymmetry_radius": 1.5,
    "asymmetry_bias": 1.13,
    "lowest_asymmetry": -0.5,
    "highest_asymmetry": 2.0,
}

#: Images that go through the memory of a processor at a time.
CHUNK = 64
#: Part of a cell by which images may be too small at each side, so that something is
#: known of all cells.
SLACK = 0.6
#: Magnitudes per unit of asinh.
POGSON = 1.0857


@dataclass
class Prepared:
    """What the network takes, and how it lies in the images.

    Attributes
    ----------
    image : `torch.Tensor`
        Shape (n, channels, y, x), float32.
    scalars : `torch.Tensor`
        Shape (n, scalars), float32.
    frame : `torch.Tensor`
        Shape (n, 10), float64: x and y of the center and half of the side of the
        square in pixels; the angle from x to the major axis, in radians; and for the
        reference, the blue and the red band the brightness that is one in the square
        and that which is zero, in flux per pixel, NaN where there is no such band.
    """

    image: torch.Tensor
    scalars: torch.Tensor
    frame: torch.Tensor

    @property
    def inputs(self):
        """Tensors by the names that the network knows."""
        return {"image": self.image, "scalars": self.scalars}


def bands_shown(wavelengths, spec):
    """Find the bands that show shape, blue and red color.

    Parameters
    ----------
    wavelengths : sequence of float
        Of each band, in micron.
    spec : `~galml.core.InputSpec`
        What the network is shown.

    Returns
    -------
    tuple of int or None
        Indices; None for a color that cannot be had.
    """
    names = ("reference", "blue", "red")
    goals = {name: spec.parameters[f"{name}_wavelength"] for name in names}
    nearest = spec.parameters["nearest_band"]
    return features.choose_bands(wavelengths, **goals, nearest=nearest)


def prepare(images, spec):
    """Prepare images of one shape.

    Parameters
    ----------
    images : `~galml.imaging.GalaxyImages`
        The images; they are not changed.
    spec : `~galml.core.InputSpec`
        What the network is shown.

    Returns
    -------
    `Prepared`
        An image without light gives finite nonsense and a low ``log_snr``: the
        caller decides.
    """
    size, work = spec.grid[0], _Preparation(images, spec)
    image = torch.empty(len(images), len(spec.channels), size, size)
    scalars = torch.empty(len(images), len(spec.scalars))
    frame = torch.full((len(images), 10), torch.nan, dtype=torch.float64)
    for whole in (True, False):
        for rows in (work.whole == whole).nonzero()[:, 0].split(CHUNK):
            if len(rows):
                first, end = int(rows[0]), int(rows[-1]) + 1
                rows = slice(first, end) if end - first == len(rows) else rows
                image[rows], scalars[rows], frame[rows] = work.prepare(rows, whole)
    return Prepared(image=image, scalars=scalars, frame=frame)


class _Preparation:
    """What is known of images of one shape, and how they are prepared."""

    def __init__(self, images, spec):
        self.spec, self.numbers = spec, spec.parameters
        self.target = Grid(spec.grid[0], spec.half_width)
        cells = int(self.numbers["wide_cells"])
        self.grid = Grid(cells, spec.half_width * cells / spec.grid[0])
        self.shown = bands_shown(images.wavelengths, spec)
        self.bands = [band for band in self.shown if band is not None]
        self.wavelengths = images.wavelengths
        self.calibrated = images.calibrated
        self.data = as_tensor(images.values)
        self.center = galaxy_centers(images)
        r_eff = torch.from_numpy(images.r_eff)
        self.half, self.r_eff = self.grid.half * r_eff, r_eff.float()
        self.psf_fwhm = torch.from_numpy(images.psf_fwhm)[:, self.bands[0]].float()
        # Single precision then holds the galaxy, however bright the sky is.
        means = [self.data[:, b].mean((1, 2), dtype=torch.float64) for b in self.bands]
        self.level = torch.stack(means, 1)
        known = torch.isfinite(self.level).all(1)
        if not known.all():
            part = self.data[~known][:, self.bands].double()
            level = part.nanmean((2, 3)).nan_to_num(0.0, 0.0, 0.0)
            self.level[~known] = level
        self.scale = flux_scale([self.data[:, b] for b in self.bands], self.level)
        noise = torch.from_numpy(images.noise)[:, self.bands]
        self.noise = (noise * self.scale[:, None]).float()
        slack = min(SLACK, 0.9 * (1 - math.sqrt(self.numbers["least_known"])))
        cell = 2 * self.half / cells
        self.whole = known & lies_inside(images, self.half - slack * cell)
        # What is known of the outermost cells must not count in the turned image.
        reach = math.sqrt(2) * self.target.step[-1]
        if reach > self.grid.step[-2]:
            self.whole[:] = False

    def prepare(self, rows, whole):
        """Give image and numbers of some galaxies, all or none of them whole."""
        p, r_eff = self.numbers, self.r_eff[rows]
        stamps = regrid(
            self._without_level(rows),
            self.center[rows],
            self.half[rows],
            self.grid.size,
            whole=whole,
            least_known=p["least_known"],
        )
        far = {"far": p["sky_radius"], "share": p["sky_share"]}
        sky = sky_level(stamps, self.grid, **far)[..., None, None]
        if whole:
            stamps.mean -= sky
        else:
            stamps.mean = torch.where(stamps.cover > 0, stamps.mean - sky, 0.0)
        error = self._errors(stamps, rows, far)
        cell_error = error * stamps.reduction[:, None]
        radii = tuple(p[f"light_{part}"] for part in ("inner", "middle", "outer"))
        light = features.light_inside(stamps, self.grid, radii)
        unit = torch.maximum(light[:, :, 1], p["unit_noise"] * cell_error)
        unit = unit.clamp_min(features.TINY)
        widths = (p["shape_inner"], p["shape_outer"])
        shape = stamps.mean[:, 0] * stamps.cover[:, 0]
        angle, ratio, twist = features.shape_moments(
            shape,
            self.grid,
            widths,
            flattest=p["flattest_shape"],
            roundest=p["roundest_shape"],
        )
        # Floats have no unit: brightness is counted in that inside the radius.
        value, cover = self._aligned(stamps, angle)
        value = value / unit[..., None, None]
        smallest = self.spec.stretch["smallest_error"]
        seen_error = (cell_error / unit).clamp_min(smallest)
        image = self._image(value, cover, seen_error)
        bend = features.asymmetry(
            value[:, 0],
            seen_error[:, 0],
            self.target,
            radius=p["asymmetry_radius"],
            bias=p["asymmetry_bias"],
        )
        numbers = {
            "log_pixels": r_eff.clamp_min(p["smallest_radius"]).log10(),
            "axis_ratio_inner": ratio[:, 0],
            "axis_ratio": ratio[:, 1],
            "twist": twist,
            "asymmetry": bend.clamp(p["lowest_asymmetry"], p["highest_asymmetry"]),
            "coverage": torch.ones_like(r_eff) if whole else cover[:, 0].mean((1, 2)),
        }
        numbers |= self._brightness(light, error, r_eff)
        numbers |= self._colors(light, unit, error, r_eff)
        numbers |= self._circumstances(rows, r_eff)
        scalars = torch.stack([numbers[name] for name in self.spec.scalars], 1)
        return image, scalars, self._frame(rows, angle, unit, sky[..., 0, 0])

    def _frame(self, rows, angle, unit, sky):
        """Tell where the square lies, and what its brightness means."""
        scale = self.scale[rows, None]
        light = torch.full((len(angle), 2, 3), torch.nan, dtype=torch.float64)
        seen = [k for k, band in enumerate(self.shown) if band is not None]
        light[:, 0, seen] = unit.double() / scale
        light[:, 1, seen] = self.level[rows].double() + sky.double() / scale
        half = self.half[rows, None] * (self.target.half / self.grid.half)
        place = [self.center[rows], half, angle.double()[:, None], light.flatten(1)]
        return torch.cat(place, 1)

    def _without_level(self, rows):
        """Give images less their mean, in single precision."""
        chunk, level, scale = self.data[rows], self.level[rows], self.scale[rows]
        data = torch.empty(len(chunk), len(self.bands), *chunk.shape[2:])
        extreme = bool((scale != 1).any())
        for place, band in enumerate(self.bands):
            plane, sky = chunk[:, band], level[:, place, None, None]
            if extreme:
                data[:, place] = (plane - sky) * scale[:, None, None]
            else:
                torch.sub(plane, sky.to(plane.dtype), out=data[:, place])
        return data

    def _errors(self, stamps, rows, far):
        """Error of a pixel in each band: that given, or else measured."""
        error, p = self.noise[rows], self.numbers
        missing = torch.isnan(error)
        if not missing.any():
            return error
        measured = measure_noise(
            stamps,
            self.grid,
            **far,
            lag=int(p["noise_lag"]),
            clip=p["noise_clip"],
            rounds=int(p["noise_rounds"]),
            clipped_variance=p["noise_clipped_variance"],
        )
        return torch.where(missing, measured, error)

    def _aligned(self, stamps, angle):
        """Turn the images; give brightness, and how much of each cell is known."""
        if stamps.whole:
            # What is partly known lies beyond the turned image.
            return align(stamps.mean, angle, self.grid, self.target), None
        cover = stamps.cover.expand(stamps.mean.shape)
        planes = torch.cat([stamps.mean * cover, cover], 1)
        light, cover = align(planes, angle, self.grid, self.target).chunk(2, 1)
        known = cover > self.numbers["least_shown"]
        return torch.where(known, light / cover.clamp_min(1e-6), 0.0), cover

    def _image(self, value, cover, error):
        """Make the planes that the network sees."""
        s = self.spec.stretch
        shape, noise = value[:, 0], error[:, 0, None, None]
        smooth = box_mean(shape, int(s["contrast_cells"]))
        limit = s["contrast_light"] * smooth.abs() + s["contrast_floor"]
        limit = torch.hypot(s["contrast_noise"] * noise, limit)
        planes = {
            "shape": asinh_stretch(shape, s["shape_softening"]) / s["shape_scale"],
            "significance": asinh_stretch(shape, s["significance_softening"] * noise)
            / s["significance_scale"],
            "contrast": asinh_stretch(shape - smooth, limit) / s["contrast_scale"],
        }
        soft = box_mean(value, int(s["color_cells"]))
        place = 1
        for name, band in zip(("blue", "red"), self.shown[1:], strict=True):
            if band is None:
                continue
            other_noise = error[:, place, None, None]
            snr = torch.minimum(soft[:, place] / other_noise, soft[:, 0] / noise)
            softening = s["color_softening"] * torch.maximum(noise, other_noise)
            first, second = (asinh_stretch(soft[:, k], softening) for k in (0, place))
            trust = 1 / (1 + (s["color_snr"] / snr.clamp_min(1e-3)).square())
            largest = s["color_largest"]
            planes[name] = (POGSON * (first - second) * trust).clamp(-largest, largest)
            if f"{name}_shape" in self.spec.channels:
                light = asinh_stretch(value[:, place], s["shape_softening"])
                planes[f"{name}_shape"] = light / s["shape_scale"]
            place += 1
        image = torch.empty(len(value), len(self.spec.channels), *shape.shape[1:])
        for k, name in enumerate(self.spec.channels):
            if name == "coverage":
                image[:, k] = 1.0 if cover is None else cover[:, 0]
            elif name in planes:
                torch.clamp(planes[name], -s["largest"], s["largest"], out=image[:, k])
                if cover is not None:
                    image[:, k] *= cover[:, 0] > self.numbers["least_shown"]
            else:
                image[:, k] = 0.0
        return image

    def _brightness(self, light, error, r_eff):
        """Measure how bright and how concentrated the reference band is."""
        p, error = self.numbers, error[:, 0]
        inner, middle, outer = light[:, 0].unbind(1)
        floor = torch.maximum(p["ratio_light"] * middle.abs(), p["ratio_noise"] * error)
        floor = floor.clamp_min(features.TINY)
        part = features.concentration(inner, middle, floor)
        growth = features.concentration(outer, middle, floor)
        lowest, highest = p["lowest_concentration"], p["highest_concentration"]
        return {
            "log_snr": self._log_snr(middle, error, r_eff),
            "concentration": part.clamp(lowest, highest),
            "growth": growth.clamp(-p["largest_growth"], p["largest_growth"]),
        }

    def _log_snr(self, brightness, error, r_eff):
        """Signal to noise inside the effective radius, as a logarithm."""
        p = self.numbers
        low, high = p["lowest_snr"], p["highest_snr"]
        return features.log_snr(brightness, error, r_eff, low=low, high=high)

    def _colors(self, light, unit, error, r_eff):
        """Measure colors and their gradients, zero where they cannot be had."""
        p, zero = self.numbers, torch.zeros_like(r_eff)
        result, place = {}, 1
        for name, band in zip(("blue", "red"), self.shown[1:], strict=True):
            keys = ("wavelength", "log_snr", "color", "gradient")
            result |= {f"{name}_{key}": zero for key in keys}
            result[f"has_{name}"] = zero + float(band is not None)
            if band is None:
                continue
            ratio = self.wavelengths[band] / self.wavelengths[self.shown[0]]
            result[f"{name}_wavelength"] = zero + math.log10(ratio)
            result[f"{name}_log_snr"] = self._log_snr(
                light[:, place, 1], error[:, place], r_eff
            )
            largest = p["largest_color"]
            color = features.color(unit[:, 0], unit[:, place], largest=largest)
            if self.calibrated:
                result[f"{name}_color"] = color
            # Brightness between one and two radii, from that inside each.
            outer = 4 * light[:, :, 2] - light[:, :, 1]
            floor = p["gradient_light"] * unit
            change = features.color(
                outer[:, 0],
                outer[:, place],
                floor[:, 0],
                floor[:, place],
                largest=largest,
            )
            steepest = p["largest_gradient"]
            result[f"{name}_gradient"] = (change - color).clamp(-steepest, steepest)
            place += 1
        return result

    def _circumstances(self, rows, r_eff):
        """Tell how the images were taken."""
        p = self.numbers
        limits = {"low": p["narrowest_psf"], "high": p["widest_psf"]}
        known, width = features.log_psf(self.psf_fwhm[rows], r_eff, **limits)
        ratio = self.wavelengths[self.shown[0]] / p["reference_wavelength"]
        return {
            "has_psf": known,
            "log_psf": width,
            "wavelength": torch.full_like(r_eff, math.log10(ratio)),
            "calibrated": torch.full_like(r_eff, float(self.calibrated)),
        }
