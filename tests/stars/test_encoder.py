# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch
from torch import nn

from galml.core.training import train
from galml.stars.encoder import ENCODERS, reconstruction_loss


def images(count=24):
    """Round galaxies of different size and color."""
    generator = torch.Generator().manual_seed(0)
    step = torch.arange(64) - 31.5
    radius = torch.hypot(step[:, None], step)
    size = 3 + 12 * torch.rand(count, 1, 1, 1, generator=generator)
    color = 0.3 + 0.7 * torch.rand(count, 3, 1, 1, generator=generator)
    return color * torch.exp(-radius / size)


def test_small():
    torch.manual_seed(0)
    network = ENCODERS["small"]().eval()
    stack = images(5)
    with torch.no_grad():
        latent = network.encode(stack)
        assert latent.shape == (5, network.n_latent)
        assert network.decode(latent).shape == stack.shape
        outputs = network({"image": stack})
        assert torch.equal(outputs["latent"], latent)
        assert torch.equal(outputs["reconstruction"], network.decode(latent))
        assert torch.allclose(network.encode(stack[2:3]), latent[2:3], atol=1e-6)
    assert sum(p.numel() for p in network.parameters()) < 300_000


def test_learns_to_reconstruct():
    torch.manual_seed(0)
    network = ENCODERS["small"]()
    data = {"image": images()}
    before = reconstruction_loss(network, data)["loss"].item()
    train(
        network,
        reconstruction_loss,
        data,
        data,
        epochs=12,
        batch_size=8,
        learning_rate=3e-3,
        device="cpu",
    )
    after = reconstruction_loss(network, data)["loss"].item()
    assert after < 0.4 * before


def test_published_layers():
    with torch.device("meta"):
        network = ENCODERS["galacticforge"]()
    convolutions = [m for m in network.encoder if isinstance(m, nn.Conv2d)]
    channels = [layer.out_channels for layer in convolutions]
    assert channels == [64, 128, 256, 512, 1024, 2048]
    assert {(m.kernel_size, m.stride) for m in convolutions} == {((4, 4), (2, 2))}
    assert network.encoder[-1].weight.shape == (16, 2048 * 7 * 7)
    assert isinstance(network.decoder[-1], nn.Sigmoid)
    output = network({"image": torch.empty(1, 3, 448, 448, device="meta")})
    assert output["reconstruction"].shape == (1, 3, 448, 448)
    number = sum(p.numel() for p in network.parameters())
    assert number == pytest.approx(93e6, rel=0.01)
