# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What figures of several domains share.

All draw into a `~matplotlib.figure.Figure`, without the state of pyplot. Needs
matplotlib, which is imported on first use.
"""

import numpy as np

__all__ = ["marker_size", "new_figure", "plot_history"]


def new_figure(figure, size):
    """Give the figure to draw into, with room for its labels."""
    from matplotlib.figure import Figure

    figure = Figure() if figure is None else figure
    figure.set_size_inches(size)
    figure.set_layout_engine("constrained")
    return figure


def marker_size(count):
    """Area of the markers, smaller where there are many."""
    return float(np.clip(2000 / max(count, 1), 3, 30))


def plot_history(history, *, figure=None):
    """Draw the losses of a training.

    Parameters
    ----------
    history : `~astropy.table.QTable`
        ``epoch``, ``train_loss`` and ``validation_loss``, as
        `galml.core.training.train` gives them.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to draw into; a new one by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        With one pair of axes, labeled ``loss``.
    """
    figure = new_figure(figure, (6.0, 4.0))
    panel = figure.add_subplot(label="loss")
    epoch, loss = np.asarray(history["epoch"]), np.asarray(history["validation_loss"])
    panel.plot(epoch, history["train_loss"], color="0.6", label="training")
    panel.plot(epoch, loss, color="tab:blue", label="validation")
    best = int(np.argmin(loss))
    label = f"best: epoch {epoch[best]}, {loss[best]:.4g}"
    panel.plot(epoch[best], loss[best], "o", color="tab:blue", label=label)
    panel.set(xlabel="epoch", ylabel="loss")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.legend(frameon=False)
    return figure
