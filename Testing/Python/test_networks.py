"""The VAE's parts: shapes, what the encoder may see, and a linear path that is linear."""

import pytest
import torch
from MedInpaintLib.networks import VAE, LinearPath, height_features, neighbours

SIZE = (48, 32)
LATENT = 5
SUPPORT = torch.zeros(SIZE, dtype=torch.bool)
SUPPORT[4:44, 3:29] = True


@pytest.fixture(params=[3, 7], ids="kernel {}".format)
def network(request):
    """A VAE none of whose weights is zero, as after a training."""
    torch.manual_seed(0)
    network = VAE(SUPPORT, LATENT, request.param)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.requires_grad_(False).eval()


@pytest.fixture
def path():
    torch.manual_seed(1)
    path = LinearPath(SUPPORT, LATENT, controls=4, atoms=7).requires_grad_(False)
    path.mean.normal_()
    return path


def inputs(n, seed=2):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(n, 1, *SIZE, generator=generator)
    hole = torch.zeros_like(image)
    hole[..., 10:25, 8:19] = 1
    return image, hole, torch.linspace(0, 1, n)


@pytest.mark.parametrize("n", [1, 3])
def test_a_slice_becomes_a_latent_and_a_latent_a_slice(network, n):
    image, hole, height = inputs(n)
    mean, log_variance = network.encoder(image, hole, height)
    assert mean.shape == log_variance.shape == (n, LATENT)
    assert network.decoder(mean, height).shape == image.shape


def test_the_encoder_never_sees_what_stands_in_the_hole(network):
    image, hole, height = inputs(3)
    painted = torch.where(hole > 0, 1000 * torch.rand_like(image), image)
    for clean, other in zip(network.encoder(image, hole, height), network.encoder(painted, hole, height), strict=True):
        assert torch.equal(clean, other)


def test_the_encoder_tells_a_hole_from_black_tissue(network):
    image, hole, height = inputs(3)
    black = image * (1 - hole)
    assert not torch.allclose(network.encoder(black, hole, height)[0], network.encoder(black, 0 * hole, height)[0])


def test_the_encoder_looks_at_the_known_pixels(network):
    image, hole, height = inputs(3)
    other = torch.where(hole > 0, image, image.flip(-2))
    assert not torch.allclose(network.encoder(image, hole, height)[0], network.encoder(other, hole, height)[0])


def test_encoder_and_decoder_are_told_the_height(network):
    image, hole, _ = inputs(2)
    image[1] = image[0]
    height = torch.tensor([0.2, 0.7])
    mean, _ = network.encoder(image, hole, height)
    assert (mean[0] - mean[1]).abs().max() > 1e-4
    z = torch.ones(2, LATENT)
    detail = network.decoder(z, height) - network.decoder.linear(z, height)
    assert (detail[0] - detail[1]).abs().max() > 1e-4  # not by way of the linear path alone


def test_slices_of_a_batch_do_not_touch_each_other(network):
    image, hole, height = inputs(3)
    together, _ = network.encoder(image, hole, height)
    alone = torch.cat([network.encoder(image[i : i + 1], hole[i : i + 1], height[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_log_variance_stays_where_its_exponential_is_harmless(network):
    image, hole, height = inputs(2)
    _, log_variance = network.encoder(1e6 * image, hole, height)
    assert log_variance.min() >= -10
    assert log_variance.max() <= 3


def test_the_refinement_sees_nothing_of_the_latent_but_the_linear_paths_slice(network):
    height = torch.tensor([0.3])
    network.decoder.linear.loadings[:, -1] = 0  # a latent that the linear path ignores
    z = torch.randn(1, LATENT)
    other = z.clone()
    other[:, -1] += 5
    assert torch.equal(network.decoder(z, height), network.decoder(other, height))


def test_an_untrained_decoder_is_its_linear_path_alone():
    torch.manual_seed(0)
    decoder = VAE(SUPPORT, LATENT, 3).decoder.requires_grad_(False)
    z, height = torch.randn(3, LATENT), torch.tensor([0.0, 0.4, 1.0])
    assert torch.equal(decoder(z, height), decoder.linear(z, height))


def test_the_linear_path_is_linear_in_the_latent(path):
    height = torch.full((2,), 0.37)
    a, b = torch.randn(2, LATENT), torch.randn(2, LATENT)
    mean = path(0 * a, height)
    combined = path(2 * a - 3 * b, height) - mean
    torch.testing.assert_close(combined, 2 * (path(a, height) - mean) - 3 * (path(b, height) - mean))


def test_outside_the_support_the_linear_path_is_black(path):
    slices = path(torch.randn(3, LATENT), torch.tensor([0.0, 0.4, 1.0]))
    assert slices.shape == (3, 1, *SIZE)
    assert (slices[:, 0, ~SUPPORT] == 0).all()
    assert (slices[:, 0, SUPPORT] != 0).all()


def test_at_a_control_height_the_linear_path_has_the_control_values(path):
    height = torch.arange(4) / 3
    z = torch.randn(4, LATENT)
    expected = path.mean[::2] + torch.einsum("nk,nka,ap->np", z, path.loadings, path.dictionary)
    torch.testing.assert_close(path(z, height)[:, 0, SUPPORT], expected)


def test_half_way_between_control_heights_the_loadings_are_averaged(path):
    z = torch.randn(1, LATENT)
    loadings = (path.loadings[1] + path.loadings[2]) / 2
    expected = path.mean[3] + z @ loadings @ path.dictionary
    torch.testing.assert_close(path(z, torch.tensor([0.5]))[:, 0, SUPPORT], expected)


@pytest.mark.parametrize("controls", [2, 24])
def test_interpolation_between_controls_is_exact_for_a_straight_line(controls):
    height = torch.linspace(0, 1, 101)
    value = sum(share * (3.0 * index / (controls - 1) - 1) for index, share in neighbours(height, controls))
    torch.testing.assert_close(value, 3 * height - 1)
    for index, share in neighbours(torch.tensor([-0.5, 1.5]), controls):  # beyond the ends: the ends
        assert index.min() >= 0
        assert index.max() < controls
        assert ((share == 0) | (share == 1)).all()


def test_height_features_tell_neighbouring_slices_apart():
    features = height_features(torch.linspace(0, 1, 104))
    assert features.shape == (104, 16)
    torch.testing.assert_close(features[:, :8] ** 2 + features[:, 8:] ** 2, torch.ones(104, 8))
    assert (torch.cdist(features, features) + torch.eye(104)).min() > 0.5
