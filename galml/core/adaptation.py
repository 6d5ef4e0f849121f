# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From the survey that a model was trained on to another one, for any domain."""

import copy
from dataclasses import dataclass, replace
from inspect import signature
from numbers import Real

import numpy as np
import torch
from torch import nn

from galml.core.domain import find_architecture, find_domain, find_object
from galml.core.exceptions import GalmlError, InputError, ModelError
from galml.core.fitting import (
    answered,
    check_number,
    check_shares,
    data_set,
    evaluate,
    select,
    split_rows,
    trained_model,
    valid_range,
)
from galml.core.inference import to_device
from galml.core.metrics import conformal_quantile
from galml.core.model import GalaxyModel
from galml.core.networks import RandomNetwork, View
from galml.core.training import Paired, train
from galml.core.weights import load_model
from galml.physics import fresh_seed, generator_for

__all__ = ["adapt", "adapt_prepared", "find_recipe", "mmd"]

#: Kernels of the discrepancy: their widths over the mean distance of two objects.
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Objects of each survey that are compared, at most.
COMPARED = 2048
#: Share of objects like those of the training that are said to be unlike them.
UNLIKE = 0.01
CPU = torch.device("cpu")
#: Beginnings of the names of tensors of both surveys in a batch.
SOURCE, TARGET = "source_", "target_"
#: What a card says of the model that was adapted, too.
KEPT = ("title", "training", "license")


def adapt(
    model,
    source,
    target,
    *,
    pairs=False,
    truth=None,
    source_options=None,
    target_options=None,
    alignment=10.0,
    distillation=None,
    validation=0.15,
    calibration=0.15,
    name=None,
    seed=0,
    epochs=20,
    batch_size=128,
    learning_rate=1e-4,
    patience=None,
    device="auto",
    dtype="float32",
    checkpoint=None,
    progress=False,
    log_dir=None,
):
    r"""Adapt a model to images of another survey.

    A copy of the network is trained so that its features of the target are distributed
    as those of the source were, by their squared maximum mean discrepancy

    .. math::

        \mathrm{MMD} = \langle k(t, t') + k(s, s') - 2 k(s, t) \rangle, \quad
        k(x, y) = \sum_{i=-2}^{2} \exp \left( - \frac{|x - y|^2}{2^i w} \right),

    where w is the mean squared distance of two objects [1]_. Features of the source
    are those of the network as it was, which is frozen. Features are the latents of a
    model, where it has some, or what its last layers see. The batch normalization
    stays that of the source.

    Parameters
    ----------
    model : str, path or `~galml.core.GalaxyModel`
        Model of any operation whose network has features. It is not changed.
    source, target : object
        Objects of the survey that the model knows, and of the other one, as the
        operation takes them; at least 20 of each.
    pairs : bool, optional
        Whether row i of both is the same galaxy. Pairs of which one cannot be used are
        left out.
    truth : `~astropy.table.QTable` or mapping, optional
        One row per object of the source, as ``fit`` of the domain takes it (for
        mergers, with ``stage``). Then the copy also learns from it, on images of the
        source, or, with pairs, on those of the target, and is calibrated anew.
    source_options, target_options : mapping, optional
        Keywords of the operation with which each is read, such as
        ``{"bands": ("g", "r", "z"), "pixel_scale": 0.262 * u.arcsec}``.
    alignment : float, optional
        Weight of the discrepancy.
    distillation : float, optional
        Weight of the mean squared difference between what the copy tells and what the
        frozen network tells, in units of the spread over the source. It is taken on
        images of the source, so that what the model knows of these, and its
        calibration, stay; or, with pairs, between the target as the copy sees it and
        the source as the frozen network does, and of the latents alone, where there
        are some. By default 1, and 0 with a truth.
    validation, calibration : float, optional
        Shares of the objects that choose the best epoch, and on which figures are
        measured; training sees neither.
    name : str, optional
        Name of the new model.
    seed : int or None, optional
        Seed of the split and the training; None draws a fresh one. It stands in the
        card.
    epochs, batch_size, learning_rate, patience, device, dtype
        As in `galml.core.training.train`.
    checkpoint, progress, log_dir
        As in `galml.core.training.train`.

    Returns
    -------
    `~galml.core.GalaxyModel`
        Its ``card`` says what it was ``adapted_from``, and how many ``source_objects``
        and ``target_objects`` it was trained on. The figures in it are measured on
        objects that training has not seen: ``mmd`` and ``mmd_before``;
        ``distillation_error``, the root of the mean squared difference above, and, with
        pairs, its value before, and ``pair_distance`` with ``pair_distance_before``,
        the median distance of the features of a pair over that of two galaxies of the
        source. ``history``, an attribute, is the table of epochs.

    Raises
    ------
    galml.core.InputError
        If there are too few usable objects, truths or pairs that do not fit, or an
        argument is out of its range.
    galml.core.ModelError
        If the network has no features, or there is no recipe to learn from a truth.

    Notes
    -----
    Where a model learns without truths, such as an autoencoder, the copy also goes on
    learning on the target in its own way. Published are pairs, such an autoencoder,
    ``alignment=10``, ``distillation=0`` and ``learning_rate=1e-5`` [1]_.

    References
    ----------
    .. [1] Xu et al. (2023), MNRAS 526, 6391; the discrepancy: Gretton et al. (2012),
       JMLR 13, 723.

    Examples
    --------
    From 24 sharp disks to as many blurred ones, as far too few as they are:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> import galml
    >>> y, x = np.indices((48, 48)) - 23.5
    >>> radii = [np.hypot(x, y / q) / 4 for q in np.linspace(0.3, 1, 24)]
    >>> sharp = np.array([[np.exp(-r)] for r in radii]) * u.nJy
    >>> blurred = np.array([[np.exp(-np.hypot(r, 0.7))] for r in radii]) * u.nJy
    >>> options = {"bands": ("r",), "r_eff": 6 * u.pix}
    >>> model = galml.adapt(
    ...     galml.load_model("stellar-spin-3"), sharp, blurred, pairs=True,
    ...     source_options=options, target_options=options, epochs=1, seed=1,
    ... )
    >>> model.card["adapted_from"]["name"], model.card["target_objects"]
    ('stellar-spin-3', 16)
    """
    seed = fresh_seed() if seed is None else seed
    shares = {"validation": validation, "calibration": calibration}
    check_shares(**shares)
    start = load_model(model)
    recipe, first, whole = _read(
        start, "source", source, source_options, None if pairs else truth
    )
    other_recipe, second, other = _read(
        start, "target", target, target_options, truth if pairs else None
    )
    if pairs:
        if len(whole) != len(other):
            got, expected = f"{len(other)} objects", f"{len(whole)}, as of the source"
            raise InputError("target", got, expected)
        both = whole & other
        check_number("target", both.sum(), "pairs")
        first = select(first, torch.from_numpy(both[whole]))
        second = select(second, torch.from_numpy(both[other]))
    parts = [
        [
            select(data, rows)
            for rows in split_rows(_length(data), seed, *shares.values())
        ]
        for data in (first, second)
    ]
    return adapt_prepared(
        start,
        *parts,
        recipe=other_recipe if pairs else recipe,
        pairs=pairs,
        has_truth=truth is not None,
        alignment=alignment,
        distillation=distillation,
        name=name,
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        device=device,
        dtype=dtype,
        checkpoint=checkpoint,
        progress=progress,
        log_dir=log_dir,
    )


def adapt_prepared(
    model,
    source,
    target,
    *,
    recipe=None,
    pairs=False,
    has_truth=False,
    alignment=10.0,
    distillation=None,
    name=None,
    seed=0,
    card=None,
    device="auto",
    **training,
):
    """Adapt a model to objects that are prepared.

    Parameters
    ----------
    model : `~galml.core.GalaxyModel`
        Is not changed.
    source, target : sequence of dict of str to `torch.Tensor`
        Three data sets of what the network takes, which train, choose the best epoch,
        and make figures and calibration.
    recipe : `~galml.core.fitting.Recipe`, optional
        How the network was trained, see `find_recipe`: its images are altered as for
        that, and it learns on as it did where it needs no truth for that.
    pairs : bool, optional
        As in `adapt`.
    has_truth : bool, optional
        Whether the source, or, with pairs, the target has the truth that the recipe
        learns from.
    alignment, distillation, name, seed, device
        As in `adapt`.
    card : dict, optional
        More to say about the model.
    **training
        Keywords of `~galml.core.training.train`.

    Returns
    -------
    `~galml.core.GalaxyModel`
        As `adapt` gives it.
    """
    if distillation is None:
        distillation = 0.0 if has_truth else 1.0
    for key, weight in (("alignment", alignment), ("distillation", distillation)):
        if not (isinstance(weight, Real) and 0 <= weight < np.inf):
            raise InputError(key, repr(weight), "a number of at least 0")
    options = {} if recipe is None else getattr(recipe, "asked", {})
    views = find_domain(model, **options).views or (View(),)
    pair = _Pair(model.network)
    if not any(weight.requires_grad for weight in pair.copy.parameters()):
        raise ModelError(f"{model.name or 'the model'}: none of its weights may change")
    adaptation = _Adaptation(
        pair,
        recipe,
        views,
        pairs=pairs,
        task=_task(recipe, pairs, has_truth),
        alignment=alignment,
        distillation=distillation,
        spread=_spread(pair.frozen, source[0], device),
    )
    result = train(
        pair,
        adaptation.loss,
        *map(adaptation.data, source[:2], target[:2]),
        augment=adaptation.augment,
        seed=seed,
        device=device,
        **training,
    )
    pair.eval()
    network = pair.copy.network
    described = {
        "operation": model.operation,
        "architecture": model.architecture,
        "options": model.options,
        "input_spec": model.input_spec,
    }
    figures = adaptation.figures(source[2], target[2], device)
    config = copy.deepcopy(model.config)
    shown = [target[0]] if pairs else [target[0], source[0]]
    if has_truth:
        bare = GalaxyModel(network, config={}, card={}, **described)
        held_out = (target if pairs else source)[2]
        changed, more = recipe.calibrate(bare, _joined(shown), held_out, device=device)
        config, figures = config | changed, figures | more
    held_out = [target[2]] if pairs else [target[2], source[2]]
    if not has_truth:
        adaptation.learn_distance(shown, seed, device)
    adaptation.widen(config.get("domain", {}), shown, held_out, device)
    about = {key: model.card[key] for key in KEPT if key in model.card}
    earlier = {key: model.card[key] for key in ("adapted_from",) if key in model.card}
    about |= {
        "adapted_from": {"name": model.name, "sha256": model.sha256} | earlier,
        "source_objects": _length(source[0]),
        "target_objects": _length(target[0]),
        "pairs": pairs,
        "alignment": alignment,
        "distillation": distillation,
        "seed": seed,
    }
    return trained_model(
        replace(result, network=network),
        card=about | (card or {}),
        figures=figures,
        config=config,
        name=name,
        **described,
    )


def find_recipe(model, **asked):
    """Find how networks such as that of a model are trained.

    Parameters
    ----------
    model : `~galml.core.GalaxyModel`
        The model.
    **asked
        What the recipe is made for beside its ``input_spec``, if it takes it.

    Returns
    -------
    `~galml.core.fitting.Recipe` or None
        None where nobody has told one.
    """
    place = find_architecture(model.operation, model.architecture).recipe
    return None if place is None else find_object(place)(model.input_spec, **asked)


def mmd(first, second):
    """Measure the squared maximum mean discrepancy of two samples.

    Parameters
    ----------
    first, second : `torch.Tensor`
        Shape (n, k) and (m, k), at least two rows each.

    Returns
    -------
    `torch.Tensor`
        Of no axes: 0 on average where both are distributed alike, hence sometimes
        below 0 (the unbiased estimate of Gretton et al. 2012). At most 10. The widths
        of the kernels are not differentiated.

    Raises
    ------
    galml.core.InputError
        If there are fewer rows.
    """
    n, m = len(first), len(second)
    if min(n, m) < 2:
        got = f"{min(n, m)} of one in a batch"
        raise InputError("source, target", got, "at least 2: a larger batch_size")
    both = torch.cat([first, second])
    both = both - both.detach().mean(0)
    length = both.square().sum(1)
    square = (length[:, None] + length - 2 * both @ both.T).clamp_min(0)
    # An object is at distance 0 from itself: such pairs say nothing.
    other = ~torch.eye(n + m, dtype=torch.bool, device=both.device)
    mean = square.detach()[other].mean().clamp_min(1e-30)
    kernel = sum(torch.exp(-square / (width * mean)) for width in WIDTHS) * other
    within = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (m * (m - 1))
    return within - 2 * kernel[:n, n:].mean()


class _Featured(nn.Module):
    """A network that gives its features beside its outputs."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs, **options):
        """Give the outputs, and ``features`` of shape (n, k).

        They are what random layers see, the latents, or what the network calls so.
        """
        if isinstance(self.network, RandomNetwork):
            features = self.network.features(inputs)
            outputs = self.network.probabilities(features)
        else:
            outputs = self.network(inputs, **options)
            features = outputs.get("latent", outputs.get("features"))
        if features is None:
            kind = type(self.network).__name__
            raise ModelError(f"a {kind} gives neither latents nor features")
        return {**outputs, "features": features.flatten(1)}


class _Pair(nn.Module):
    """The network that is adapted, beside the one that it began as."""

    def __init__(self, network):
        super().__init__()
        self.copy = _Featured(copy.deepcopy(network))
        self.frozen = _Featured(copy.deepcopy(network)).requires_grad_(False)

    def train(self, mode=True):
        """Set the mode of the copy, whose batch normalization stays as it is."""
        super().train(mode)
        self.frozen.eval()
        for layer in self.copy.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
        return self

    def forward(self, inputs, *, frozen=False, **options):
        """Evaluate the copy, or the frozen network."""
        return (self.frozen if frozen else self.copy)(inputs, **options)


@dataclass
class _Adaptation:
    """What is learned, shown and measured; attributes as in `adapt_prepared`.

    Attributes
    ----------
    task : {"source", "target", None}
        On which objects the copy learns as the recipe has it.
    spread : dict of str to `torch.Tensor`
        Mean squared deviation of each output over the source.
    """

    pair: _Pair
    recipe: object
    views: tuple
    pairs: bool
    task: str | None
    alignment: float
    distillation: float
    spread: dict

    def data(self, source, target):
        """Reduce two data sets to what the training takes."""
        parts = {"source": source, "target": target}
        if self.task is not None:
            own = parts[self.task]
            chosen = self.recipe.columns(own)
            if _length(chosen) == _length(own):
                chosen = own | chosen
            elif self.pairs:
                got = (
                    f"{_length(own) - _length(chosen)} that the network has no use for"
                )
                raise InputError("truth", got, "one of use for each pair")
            parts[self.task] = chosen
        return Paired(**parts, matched=self.pairs)

    def augment(self, batch, generator):
        """Alter objects as their recipe has it, or turn all of them alike."""
        state, altered = generator.get_state(), {}
        for prefix in (SOURCE, TARGET):
            if self.pairs:  # both images of a galaxy are altered alike
                generator.set_state(state)
            part = self._altered(_part(batch, prefix), generator)
            altered |= {prefix + key: value for key, value in part.items()}
        return altered

    def _altered(self, part, generator):
        own = None if self.recipe is None else self.recipe.training.get("augment")
        if own is not None:
            return own(part, generator)
        if self.task is not None:
            return part
        place = torch.randint(
            len(self.views), (), generator=generator, device=generator.device
        )
        return self.views[int(place)].apply(part)

    def loss(self, network, batch):
        """Give the loss of a batch, and its terms."""
        parts = {"source": _part(batch, SOURCE), "target": _part(batch, TARGET)}
        source, target = map(answered, parts.values())
        mode = self.pair.training
        self.pair.eval()  # features shall not be random
        with torch.no_grad():
            aim = network(source, frozen=True)
        found = network(target)
        terms = {"mmd": mmd(found["features"], aim["features"])}
        loss = self.alignment * terms["mmd"]
        if self.distillation:
            told = found if self.pairs else network(source)
            terms["distillation"] = self.difference(told, aim)
            loss = loss + self.distillation * terms["distillation"]
        self.pair.train(mode)
        if self.task is not None:
            # In single precision, recipes may use more of a network than its outputs.
            own = self.pair.copy.network if network is self.pair else network
            metrics = self.recipe.loss(own, parts[self.task])
            terms |= {f"task_{key}": value for key, value in metrics.items()}
            loss = loss + metrics["loss"]
        return {"loss": loss, **terms}

    def difference(self, told, aim):
        """Give the mean squared difference of outputs, in units of their spread."""
        names = list(self.spread)
        if self.pairs and "latent" in names:
            names = ["latent"]
        parts = [(told[k] - aim[k]).square().mean() / self.spread[k] for k in names]
        return torch.stack(parts).mean()

    def figures(self, source, target, device):
        """Measure how alike source and target are, before and after."""
        (aim, before), after = (
            [_ask(network, part, self.views, device) for part in parts]
            for network, parts in (
                (self.pair.frozen, (source, target)),
                (self.pair.copy, (target,) if self.pairs else (target, source)),
            )
        )
        told = after[-1]
        figures = {
            "mmd": mmd(after[0]["features"], aim["features"]),
            "mmd_before": mmd(before["features"], aim["features"]),
            "distillation_error": self.difference(told, aim).sqrt(),
        }
        if self.pairs:
            figures["distillation_error_before"] = self.difference(before, aim).sqrt()
            own = aim["features"]
            unit = torch.linalg.vector_norm(own - own.roll(1, 0), dim=1).median()
            for key, found in (("", after[0]), ("_before", before)):
                apart = torch.linalg.vector_norm(found["features"] - own, dim=1)
                figures[f"pair_distance{key}"] = apart.median() / unit
        return {key: float(value) for key, value in figures.items()}

    def learn_distance(self, shown, seed, device):
        """Tell a network that measures distances what it was shown."""
        network = self.pair.copy.network
        if not hasattr(network, "learn_distance"):
            return
        generator, features = generator_for(seed, "features of a copy"), []
        for part in shown:
            rows = torch.randperm(_length(part), generator=generator)
            part = to_device(select(part, rows[: COMPARED // len(shown)]), CPU)
            part = self._altered(part, generator)
            features.append(_ask(self.pair.copy, part, self.views, device)["features"])
        network.learn_distance(torch.cat(features))

    def widen(self, domain, shown, held_out, device):
        """Widen a domain of validity, in place, to what the copy was shown."""
        if {"low", "high"} <= domain.keys():
            for part in shown:
                for end, widest in (("low", min), ("high", max)):
                    own = valid_range(part["scalars"])[end]
                    domain[end] = list(map(widest, domain[end], own))
        if "distance" in domain:
            found = [_ask(self.pair.copy, p, self.views, device) for p in held_out]
            limits = [conformal_quantile(f["distance"], UNLIKE) for f in found]
            domain["distance"] = max(limits)


def _read(model, argument, data, options, truth):
    """Read and prepare objects: give the recipe, columns, and which are usable."""
    place = find_architecture(model.operation, model.architecture).recipe
    options, asked = dict(options or {}), {}
    if place is not None:
        asked = {
            k: options.pop(k)
            for k in signature(find_object(place)).parameters
            if k in options
        }
    recipe = find_recipe(model, **asked)
    if truth is not None:
        if recipe is None:
            name = model.name or "the model"
            raise ModelError(f"{name}: no recipe to learn from a truth")
        if not recipe.needs_truth:
            expected = "None: this network learns without"
            raise InputError("truth", type(truth).__name__, expected)
    domain = find_domain(model, **getattr(recipe, "asked", {}))
    try:
        source = domain.read(data, **options)
    except TypeError as error:
        if isinstance(error, GalmlError):
            raise
        got, expected = f"{sorted(options)}", f"keywords of {model.operation!r}"
        raise InputError(f"{argument}_options", got, expected) from error
    kind = "objects" if recipe is None else recipe.kind
    columns, usable = data_set(
        domain, source, kind=kind, recipe=recipe, truth=truth, argument=argument
    )
    return recipe, columns, usable


def _task(recipe, pairs, has_truth):
    """Tell on which objects the copy learns as its recipe has it."""
    if recipe is not None and not recipe.needs_truth:
        return "target"
    if not has_truth:
        return None
    return "target" if pairs else "source"


def _part(batch, prefix):
    """Give the objects of one survey."""
    return {
        key.removeprefix(prefix): value
        for key, value in batch.items()
        if key.startswith(prefix)
    }


def _length(data):
    return len(next(iter(data.values())))


def _joined(parts):
    """Put data sets together, as far as they have the same columns."""
    keys = set.intersection(*(set(part) for part in parts))
    return {
        key: torch.cat([part[key] for part in parts]) for key in parts[0] if key in keys
    }


def _ask(network, data, views, device):
    """Ask a network as operations do, of so many objects as are compared."""
    return evaluate(network, select(data, slice(COMPARED)), views, device=device)


def _spread(network, data, device):
    """Measure the mean squared deviation of each output that is told and not constant.

    Distances from the training are no such: they are learned anew.
    """
    outputs = _ask(network, data, (), device)
    outputs.pop("distance", None)
    spread = {k: v.var(0, correction=0).mean() for k, v in outputs.items()}
    return {key: value for key, value in spread.items() if value > 0}
