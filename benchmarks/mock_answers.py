# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Answers of the default model for maps that are prepared already.

Run as a command it says how far they are from those of `galml.circularity`.
"""

import astropy.units as u
import numpy as np
from astropy.nddata import NDData, StdDevUncertainty
from astropy.table import QTable

import galml
from galml.core.distributions import bin_centers
from galml.core.weights import load_model
from galml.gas_kinematics import metrics
from galml.gas_kinematics.fitting import evaluate
from galml.gas_kinematics.kinematic import VIEWS
from galml.gas_kinematics.mock_data import (
    BEAM_SCALARS,
    DISPERSION_SCALARS,
    UNCERTAINTY_SCALARS,
    withhold,
)
from galml.gas_kinematics.posterior import posterior
from galml.gas_kinematics.preparation import prepare
from galml.gas_kinematics.velocities import VelocityMaps
from galml.mocks import gas_maps

CHECK = 1002
#: What is withheld from the network.
INPUTS = {
    "velocity": (*DISPERSION_SCALARS, *BEAM_SCALARS, *UNCERTAINTY_SCALARS),
    "with beam, error": DISPERSION_SCALARS,
    "with dispersion": (*BEAM_SCALARS, *UNCERTAINTY_SCALARS),
    "with dispersion, beam, error": (),
}


def answer(model, data, views=VIEWS):
    """Answer as the operation does, with angles counted from the classical one."""
    outputs = evaluate(model.network, data, views=views)
    result = posterior(outputs, model.config["calibration"], model.input_spec)
    low, middle, high = result["kappa_quantiles"].numpy().T
    tilt = result["inclination_quantiles"].numpy()
    below = (bin_centers(result["kappa"], 1.0) < metrics.BOUNDARY).float()
    return QTable(
        {
            "circularity": middle,
            "circularity_lo": low,
            "circularity_hi": high,
            "circularity_err": (high - low) / 2,
            "disturbed_probability": (result["kappa"] @ below).numpy(),
            "position_angle": result["turn"].numpy() * u.deg,
            "position_angle_err": result["turn_error"].numpy() * u.deg,
            "inclination": tilt[:, 1] * u.deg,
            "inclination_err": (tilt[:, 2] - tilt[:, 0]) / 2 * u.deg,
        }
    )


def check(model, count=200):
    """Largest difference between `galml.circularity` and what is measured here."""
    _, maps = next(gas_maps(1, batch_size=count, seed=CHECK, noisy=True))
    observed = VelocityMaps(
        maps.velocity.numpy(),
        dispersion=maps.dispersion.numpy(),
        std=maps.uncertainty.numpy(),
        beam=maps.beam.double().numpy(),
    )
    prepared = prepare([observed], model.input_spec)
    data = prepared.inputs
    kms, worst = u.km / u.s, 0.0
    bare, sigma = (x.numpy() * kms for x in (maps.velocity, maps.dispersion))
    full = [
        NDData(v, uncertainty=StdDevUncertainty(e), unit=kms, mask=np.isnan(v))
        for v, e in zip(bare.value, maps.uncertainty.numpy(), strict=True)
    ]
    options = {"dispersion": sigma, "beam": maps.beam.numpy() * u.pix, "model": model}
    for names, table in (
        (INPUTS["velocity"], galml.circularity(bare, model=model)),
        ((), galml.circularity(full, **options)),
    ):
        mine = answer(model, withhold(data, names))
        turn = prepared.angle.numpy() * u.deg + mine["position_angle"]
        turn = metrics.angle_error(table["position_angle"], turn)
        change = mine["circularity"] - table["circularity"]
        worst = max(worst, np.abs(change).max(), np.abs(turn).max())
    return float(worst)


if __name__ == "__main__":
    print(f"largest difference: {check(load_model('default', 'circularity')):.1e}")
