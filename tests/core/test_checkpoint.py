# Licensed under a 3-clause BSD style license - see LICENSE.rst
import torch

from galml.core.training import State, load_checkpoint, save_checkpoint


def test_loaded_optimizer_is_laid_out_as_the_weights(tmp_path):
    network = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {}, network, optimizer, State())
    load_checkpoint(path, {}, network, optimizer)
    loaded = optimizer.state[network.weight]["exp_avg"]
    assert loaded.stride() == network.weight.stride() != loaded.contiguous().stride()
