"""The parts of a VAE and a GAN: shapes, the encoder's input, and the linear path."""

import numpy as np
import pytest
import torch
from MedInpaintLib.models.gan import GAN
from MedInpaintLib.models.layers import height_features
from MedInpaintLib.models.linear import DIFFERENCE_LEVELS, MEAN_LEVELS, LinearPath
from MedInpaintLib.models.vae import VAE
from synthetic import linear_path_of

SIZE = (48, 32)
HEIGHTS, BRAINS = 11, 3
LATENT = 2 * BRAINS
LINEAR = linear_path_of(HEIGHTS, BRAINS, SIZE)


def with_weights(network):
    """No weight is zero, as after a training."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.requires_grad_(False).eval()


@pytest.fixture(params=[3, 7], ids="kernel {}".format)
def network(request):
    torch.manual_seed(0)
    return with_weights(VAE(*LINEAR, request.param))


@pytest.fixture(params=[3, 7], ids="kernel {}".format)
def gan(request):
    torch.manual_seed(0)
    return with_weights(GAN(*LINEAR, request.param))


@pytest.fixture
def path():
    return LinearPath(*LINEAR)


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


def test_the_encoder_ignores_the_content_of_the_hole(network):
    image, hole, height = inputs(3)
    painted = torch.where(hole > 0, 1000 * torch.rand_like(image), image)
    for clean, other in zip(network.encoder(image, hole, height), network.encoder(painted, hole, height), strict=True):
        assert torch.equal(clean, other)


def test_the_encoder_distinguishes_a_hole_from_black_tissue(network):
    image, hole, height = inputs(3)
    black = image * (1 - hole)
    assert not torch.allclose(network.encoder(black, hole, height)[0], network.encoder(black, 0 * hole, height)[0])


def test_the_encoder_looks_at_the_known_pixels(network):
    image, hole, height = inputs(3)
    other = torch.where(hole > 0, image, image.flip(-2))
    assert not torch.allclose(network.encoder(image, hole, height)[0], network.encoder(other, hole, height)[0])


def test_encoder_and_decoder_depend_on_the_height(network):
    image, hole, _ = inputs(2)
    image[1] = image[0]
    height = torch.tensor([0.2, 0.7])
    mean, _ = network.encoder(image, hole, height)
    assert (mean[0] - mean[1]).abs().max() > 1e-4
    z = torch.ones(2, LATENT)
    detail = network.decoder(z, height) - network.decoder.linear(z, height)
    assert (detail[0] - detail[1]).abs().max() > 1e-4  # not only through the linear path


def test_slices_of_a_batch_do_not_influence_each_other(network):
    image, hole, height = inputs(3)
    together, _ = network.encoder(image, hole, height)
    alone = torch.cat([network.encoder(image[i : i + 1], hole[i : i + 1], height[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_log_variance_is_bounded(network):
    image, hole, height = inputs(2)
    _, log_variance = network.encoder(1e6 * image, hole, height)
    assert log_variance.min() >= -10
    assert log_variance.max() <= 3


def test_the_refinement_depends_on_the_latent_only_through_the_slice_of_the_linear_path(network):
    height = torch.tensor([0.3])
    network.decoder.linear.differences[:, -1] = network.decoder.linear.differences[:, 0]  # two equal brains
    z = torch.randn(1, LATENT)
    other = z.clone()
    other[:, 0] += 1
    other[:, BRAINS - 1] -= 1
    torch.testing.assert_close(network.decoder(z, height), network.decoder(other, height), atol=1e-5, rtol=0)


def test_an_untrained_decoder_is_its_linear_path_alone():
    torch.manual_seed(0)
    decoder = VAE(*LINEAR, 3).decoder.requires_grad_(False)
    z, height = torch.randn(3, LATENT), torch.tensor([0.0, 0.4, 1.0])
    assert torch.equal(decoder(z, height), decoder.linear(z, height))


def test_the_linear_path_is_the_mean_plus_the_brains_and_their_mirror_images(path):
    mean, differences = (part[4].numpy().astype(float) for part in LINEAR)
    z = np.random.default_rng(5).normal(size=LATENT).astype(np.float32)
    expected = mean / MEAN_LEVELS
    for k in range(BRAINS):
        change = differences[k] / DIFFERENCE_LEVELS / LATENT**0.5
        expected = expected + z[k] * change + z[BRAINS + k] * change[:, ::-1]
    slices = path(torch.from_numpy(z)[None], torch.tensor([0.4]))
    np.testing.assert_allclose(slices[0, 0].numpy(), expected, atol=1e-5)


def test_its_components_are_what_a_unit_of_each_latent_changes(path):
    height = torch.full((LATENT,), 0.6)
    changed = path(torch.eye(LATENT), height) - path(torch.zeros(LATENT, LATENT), height)
    torch.testing.assert_close(path.components(path.at_height(height[:1])[1])[0], changed[:, 0], atol=1e-5, rtol=0)


def test_a_mirrored_brain_has_the_mirrored_latent(path):
    z, height = torch.randn(2, LATENT), torch.tensor([0.2, 0.8])
    mirrored = path(torch.cat([z[:, BRAINS:], z[:, :BRAINS]], dim=1), height)
    torch.testing.assert_close(mirrored, path(z, height).flip(-1))


def test_between_two_slices_the_linear_path_takes_the_nearer_one(path):
    z = torch.randn(1, LATENT)
    assert torch.equal(path(z, torch.tensor([0.54])), path(z, torch.tensor([0.5])))
    assert not torch.equal(path(z, torch.tensor([0.56])), path(z, torch.tensor([0.5])))


def test_a_vaes_prior_is_the_squared_length_of_u(network):
    u = torch.randn(3, LATENT)
    expected = [sum(x**2 for x in row) for row in u.tolist()]
    assert network.prior_loss(u, 0 * u, torch.zeros(3)).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_gans_prior_is_the_logarithm_of_the_probability_of_being_generated(gan):
    z, height = torch.randn(3, LATENT), torch.tensor([0.1, 0.5, 0.9])
    probability = torch.sigmoid(gan.discriminator(gan.decoder(z, height), height))
    assert ((probability > 0) & (probability < 1)).all()
    assert probability.shape == (3,)
    torch.testing.assert_close(gan.prior_loss(0 * z, z, height), torch.log(1 - probability))


def test_the_discriminator_depends_on_the_height(gan):
    image = torch.rand(1, 1, *SIZE).expand(2, -1, -1, -1)
    low, high = gan.discriminator(image, torch.tensor([0.2, 0.7]))
    assert abs(low - high) > 1e-4


def test_a_gan_starts_from_the_prior_and_a_vae_from_its_encoder_first(network, gan):
    image, hole, height = inputs(3)
    noise = torch.randn(4, 3, LATENT)
    assert torch.equal(gan.start(image, hole, height, noise), noise)
    starts = network.start(image, hole, height, noise)
    mean, log_variance = network.encoder(image, hole, height)
    assert torch.equal(starts[0], mean)
    torch.testing.assert_close(starts[2], mean + (log_variance / 2).exp() * noise[2])


def test_height_features_differ_between_neighbouring_slices():
    features = height_features(torch.linspace(0, 1, 104))
    assert features.shape == (104, 16)
    torch.testing.assert_close(features[:, :8] ** 2 + features[:, 8:] ** 2, torch.ones(104, 8))
    assert (torch.cdist(features, features) + torch.eye(104)).min() > 0.5
