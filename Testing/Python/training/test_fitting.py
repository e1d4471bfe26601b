"""The linear path of a new model, and the latents that fit a slice best."""

import numpy as np
import torch
from MedInpaintLib.models.linear import LinearPath
from MedInpaintLib.training.fitting import fit_latents, remove_directions
from MedInpaintLib.training.slices.shape import mean_and_differences
from MedInpaintLib.training.trainer import brain_directions


def test_the_linear_path_reproduces_every_training_brain_and_its_mirror_image(data):
    brains = torch.as_tensor(data.brains(tuning=False))
    path = LinearPath(*mean_and_differences(brains.numpy()))
    height = torch.linspace(0, 1, brains.shape[1])
    for number, brain in enumerate(brains):
        for z, expected in ((number, brain), (number + len(brains), brain.flip(-1))):
            generated = path((8**0.5 * torch.eye(8)[z]).expand(len(height), -1), height)[:, 0]
            assert (generated - expected).abs().max() <= 0.5 / 25 + 1e-5  # half a level


def test_under_a_standard_normal_latent_slices_have_the_brains_mean_and_covariance(data):
    brains = data.brains(tuning=False)
    both = np.concatenate([brains, brains[..., ::-1]])
    path = LinearPath(*mean_and_differences(brains))
    height = torch.tensor([0.5])
    middle = both[:, round(0.5 * (brains.shape[1] - 1))].reshape(8, -1)
    np.testing.assert_allclose(path(torch.zeros(1, 8), height).numpy().ravel(), middle.mean(0), atol=0.01)
    components = path.components(path.at_height(height)[1])[0].flatten(1).numpy()
    np.testing.assert_allclose(components.T @ components, np.cov(middle.T, bias=True), atol=0.003)


def test_without_its_directions_a_brain_is_explained_by_the_others_alone():
    directions = brain_directions(4)
    assert directions.shape == (4, 8, 2)
    torch.testing.assert_close(directions.mT @ directions, torch.eye(2).expand(4, 2, 2))
    z = torch.ones(4, 8)
    for number, rest in enumerate(remove_directions(z, directions)):
        assert rest[[number, number + 4]].tolist() == [0, 0]
        assert rest.sum() == 6


def test_a_latent_without_a_direction_keeps_the_rest():
    z = torch.tensor([[1.0, 2.0, 3.0]])
    directions = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    torch.testing.assert_close(remove_directions(z, directions), torch.tensor([[0.0, 0.0, 3.0]]))


def test_fitted_latents_minimise_the_weighted_error_and_the_prior(data):
    path = LinearPath(*mean_and_differences(data.brains(tuning=False)))
    excluded = brain_directions(4)[:3]
    slices, weight = torch.rand(2, 3, 1, *data.slices.shape[2:])
    height = torch.tensor([0.4, 0.6, 0.4])
    weight[..., :20] = 0
    found = fit_latents(path, slices, weight, height, excluded, noise=0.5)
    assert torch.einsum("nk,nkj->nj", found, excluded).abs().max() < 1e-5

    def loss(z):
        z = remove_directions(z, excluded)
        return (weight * (path(z, height) - slices) ** 2).sum() / 0.5 + (z**2).sum()

    gradient = torch.autograd.functional.jacobian(loss, found)
    assert gradient.abs().max() < 1e-3 * loss(found)
    blind = torch.where(weight > 0, slices, 77.0)
    torch.testing.assert_close(fit_latents(path, blind, weight, height, excluded, noise=0.5), found)
