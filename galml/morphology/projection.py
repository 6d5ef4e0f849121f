# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operation `project`: latents in a plane."""

import numpy as np

from galml.core.exceptions import InputError, check_whole
from galml.core.inference import progress_updates
from galml.core.results import warn_batch
from galml.morphology.tables import Metric, read_latents, result_table

__all__ = ["project"]

#: Methods, and the number of neighbors that each of them keeps together.
METHODS = {"pca": None, "tsne": 30, "umap": 15}
#: Steps of t-SNE: its early exaggeration and the rest; and how often it reports.
STEPS, EVERY = (250, 500), 50


def project(
    table,
    method="pca",
    *,
    n_components=2,
    n_neighbors=None,
    seed=0,
    progress=False,
):
    """Lay latents out in a plane, in which galaxies that look alike are neighbors.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `galml.latents` gave, or any table with a column ``latent`` of shape
        (n, k).
    method : {"pca", "tsne", "umap"}, optional
        Principal components, t-SNE [1]_ (needs openTSNE) or UMAP [2]_ (needs
        umap-learn).
    n_components : int, optional
        Dimensions of the projection: at most k, and 2 for t-SNE.
    n_neighbors : int, optional
        Neighbors that t-SNE (its perplexity; by default 30) or UMAP (15) keep together;
        fewer for a small table.
    seed : int, optional
        Seed of t-SNE and UMAP.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order: ``name`` (if there), ``projection``
        (n, n_components), and ``flags``. Those of principal components are scatters of
        latents, and ``VARIANC1``... of the metadata the share of the variance in each;
        those of the others have no unit. Galaxies without latents are NaN with the
        flags ``failed`` and ``nonfinite``, and one `~galml.core.GalmlWarning` sums up.

    Raises
    ------
    galml.core.InputError
        When the table has no latents, fewer than 5 galaxies have them, or another
        argument cannot be used.
    ImportError
        Without openTSNE or umap-learn, where they are needed.

    Notes
    -----
    Differences of latents count as they are, in units of one scatter of all. Distances
    between groups, and their sizes, mean little in t-SNE and UMAP.

    References
    ----------
    .. [1] van der Maaten & Hinton (2008), JMLR 9, 2579; Policar et al. (2024), JSS 109.
    .. [2] McInnes, Healy & Melville (2018), arXiv:1802.03426.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> import galml
    >>> latent = np.random.default_rng(0).normal(size=(100, 8))
    >>> galml.project(QTable({"latent": latent}))["projection"].shape
    (100, 2)
    """
    if method not in METHODS:
        raise InputError("method", repr(method), f"one of {tuple(METHODS)}")
    known = read_latents(table, "table", least=5)
    largest = 2 if method == "tsne" else known.values.shape[1]
    check_whole("n_components", n_components, 1, largest)
    check_whole("seed", seed, 0, 2**31 - 1)
    if n_neighbors is not None:
        if method == "pca":
            raise InputError("n_neighbors", repr(n_neighbors), "None for pca")
        check_whole("n_neighbors", n_neighbors, 2, known.usable.sum() - 1)
    points = Metric.whole(known)(known.values[known.usable])
    neighbors = n_neighbors or METHODS[method]
    meta = {}
    if method == "pca":
        found, shares = _pca(points, n_components)
        meta = {f"VARIANC{i}": float(one) for i, one in enumerate(shares, start=1)}
    else:
        lay_out = _tsne if method == "tsne" else _umap
        found = lay_out(points, n_components, neighbors, int(seed), progress)
    projection = np.full((len(known.values), n_components), np.nan)
    projection[known.usable] = found
    call = {"method": method, "n_components": n_components, "n_neighbors": n_neighbors}
    result = result_table(
        known,
        "project",
        {"projection": projection},
        known.flags,
        call=call,
        names=known.names,
        seed=None if method == "pca" else seed,
    )
    result.meta |= meta
    warn_batch(known.flags, InputError("table", "no latents", "finite numbers"))
    return result


def _pca(points, n_components):
    """Principal components, and the share of the variance in each."""
    points = points.astype(float)
    points -= points.mean(axis=0)
    variance, axes = np.linalg.eigh(points.T @ points)
    axes = axes[:, ::-1][:, :n_components]
    # A sign that does not depend on the library: the largest weight is positive.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    shares = np.clip(variance[::-1], 0, None) / max(variance.sum(), 1e-300)
    return points @ (axes * np.where(largest < 0, -1, 1)), shares[:n_components]


def _tsne(points, n_components, neighbors, seed, progress):
    """Lay points out by t-SNE, from their principal components."""
    try:
        from openTSNE import TSNE
    except ImportError as error:
        message = "method='tsne' needs openTSNE: pip install 'galml[all]'"
        raise ImportError(message) from error

    with progress_updates(progress, sum(STEPS), "step", "t-SNE") as update:

        def report(iteration, error, embedding):
            update(EVERY)

        machine = TSNE(
            n_components,
            perplexity=min(neighbors, (len(points) - 1) / 3),
            early_exaggeration_iter=STEPS[0],
            n_iter=STEPS[1],
            random_state=seed,
            callbacks=report,
            callbacks_every_iters=EVERY,
        )
        return np.asarray(machine.fit(points))


def _umap(points, n_components, neighbors, seed, progress):
    """Lay points out by UMAP."""
    try:
        from umap import UMAP
    except ImportError as error:
        message = "method='umap' needs umap-learn: pip install 'galml[all]'"
        raise ImportError(message) from error

    # Too few points for a spectral start have a random one.
    init = "spectral" if len(points) > 10 * n_components + 10 else "random"
    machine = UMAP(
        n_neighbors=min(neighbors, len(points) - 1),
        n_components=n_components,
        init=init,
        random_state=seed,
        n_jobs=1,
    )
    with progress_updates(progress, len(points), name="UMAP") as update:
        found = machine.fit_transform(points)
        update(len(points))
    return found
