"""The parts of the models: shapes, the encoder's input, and what depends on z."""

import numpy as np
import pytest
import torch
from MedInpaintLib.models.gan import GAN
from MedInpaintLib.models.generator import height_features
from MedInpaintLib.models.linear import DIFFERENCE_LEVELS, MEAN_LEVELS, Linear
from MedInpaintLib.models.registry import shipped_models
from MedInpaintLib.models.vae import VAE
from synthetic import brains_of

SIZE = (48, 32)
HEIGHTS, BRAINS = 11, 3
SHARED = brains_of(HEIGHTS, BRAINS, SIZE)
KINDS = {"gan3": (GAN, 3), "gan7": (GAN, 7), "vae3": (VAE, 3), "vae7": (VAE, 7)}


def with_weights(network):
    """No weight is zero, as after a training."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.requires_grad_(False).eval()


def made(name):
    torch.manual_seed(0)
    kind, kernel = KINDS[name]
    return with_weights(kind(SHARED, kernel))


@pytest.fixture(params=KINDS)
def network(request):
    return made(request.param)


@pytest.fixture(params=["vae3", "vae7"])
def vae(request):
    return made(request.param)


@pytest.fixture(params=["gan3", "gan7"])
def gan(request):
    return made(request.param)


@pytest.fixture
def linear():
    return Linear(SHARED)


def inputs(n, seed=2):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(n, 1, *SIZE, generator=generator)
    hole = torch.zeros_like(image)
    hole[..., 10:25, 8:19] = 1
    return image, hole, torch.linspace(0, 1, n)


@pytest.mark.parametrize("n", [1, 3])
def test_a_latent_becomes_a_slice(network, n):
    slices = network.generate(torch.randn(n, network.latent), torch.linspace(0, 1, n))
    assert slices.shape == (n, 1, *SIZE)


@pytest.mark.parametrize("n", [1, 3])
def test_an_encoder_makes_a_gaussian_of_a_slice(vae, n):
    mean, log_variance = vae.encoder(*inputs(n))
    assert mean.shape == log_variance.shape == (n, vae.latent)


def test_the_convolutions_see_each_latent_at_each_height(network):
    z = torch.zeros(3, network.latent)
    height = torch.tensor([0.2, 0.5, 0.8])
    mean, features = network.at_height(height)[:2]
    base = network.generator(z, mean, features)
    for k in range(network.latent):
        z[:, k] = 1
        changed = (network.generator(z, mean, features) - base).abs().amax(dim=(1, 2, 3))
        assert (changed > 1e-5).all(), k
        z[:, k] = 0


def test_without_its_convolutions_a_networks_slice_is_another_one(network):
    z, height = torch.randn(2, network.latent), torch.tensor([0.3, 0.6])
    whole = network.generate(z, height)
    for parameter in network.generator.parameters():
        parameter.zero_()
    rest = network.generate(z, height)
    assert (whole - rest).abs().mean() > 0.01
    if isinstance(network, GAN):
        assert torch.equal(rest, network.brains.mean_at(height))  # nothing else of a GAN depends on z


@pytest.mark.parametrize("kernel", [3, 7])
def test_the_generators_of_gan_and_vae_have_the_same_size(kernel):
    gan, vae = (
        [tuple(parameter.shape) for parameter in made(f"{kind}{kernel}").generator.parameters()]
        for kind in ("gan", "vae")
    )
    assert gan == vae
    sides = {shape[2:] for shape in gan if len(shape) == 4}
    assert sides == {(kernel, kernel)}


def test_the_gradient_of_the_context_loss_reaches_every_layer_that_z_passes(network):
    network.requires_grad_(True)
    image, hole, height = inputs(3)
    z = torch.randn(3, network.latent, requires_grad=True)
    ((1 - hole) * (network.generate(z, height) - image).abs()).sum().backward()
    assert (z.grad != 0).all()
    layers = dict(network.generator.named_parameters())
    if isinstance(network, VAE):
        layers["skip"] = network.skip.weight
    for name, parameter in layers.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_encoder_ignores_the_content_of_the_hole(vae):
    image, hole, height = inputs(3)
    painted = torch.where(hole > 0, 1000 * torch.rand_like(image), image)
    for clean, other in zip(vae.encoder(image, hole, height), vae.encoder(painted, hole, height), strict=True):
        assert torch.equal(clean, other)


def test_the_encoder_distinguishes_a_hole_from_black_tissue(vae):
    image, hole, height = inputs(3)
    black = image * (1 - hole)
    assert not torch.allclose(vae.encoder(black, hole, height)[0], vae.encoder(black, 0 * hole, height)[0])


def test_the_encoder_looks_at_the_known_pixels(vae):
    image, hole, height = inputs(3)
    other = torch.where(hole > 0, image, image.flip(-2))
    assert not torch.allclose(vae.encoder(image, hole, height)[0], vae.encoder(other, hole, height)[0])


def test_encoder_and_generator_depend_on_the_height(vae):
    image, hole, _ = inputs(2)
    image[1] = image[0]
    height = torch.tensor([0.2, 0.7])
    mean, _ = vae.encoder(image, hole, height)
    assert (mean[0] - mean[1]).abs().max() > 1e-4
    same = vae.brains.mean_at(height[:1]).expand(2, -1, -1, -1)
    detail = vae.generator(torch.ones(2, vae.latent), same, height_features(height))
    assert (detail[0] - detail[1]).abs().max() > 1e-4  # not only through the mean brain


def test_slices_of_a_batch_do_not_influence_each_other(vae):
    image, hole, height = inputs(3)
    together, _ = vae.encoder(image, hole, height)
    alone = torch.cat([vae.encoder(image[i : i + 1], hole[i : i + 1], height[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_log_variance_is_bounded(vae):
    image, hole, height = inputs(2)
    _, log_variance = vae.encoder(1e6 * image, hole, height)
    assert log_variance.min() >= -10
    assert log_variance.max() <= 3


def test_an_untrained_vae_is_the_linear_model_in_principal_axes(linear):
    vae = VAE(SHARED, 3).requires_grad_(False)
    vae.initialise_skip()
    axes = SHARED.principal_axes()
    torch.testing.assert_close(axes.T @ axes, torch.eye(2 * BRAINS), atol=1e-5, rtol=0)
    z, height = torch.randn(3, vae.latent), torch.tensor([0.0, 0.4, 1.0])
    expected = linear.generate(z[:, : 2 * BRAINS] @ axes.T, height)
    torch.testing.assert_close(vae.generate(z, height), expected, atol=1e-4, rtol=0)
    everywhere = torch.linspace(0, 1, HEIGHTS)
    components = torch.einsum("nkhw,kj->jnhw", SHARED.components(everywhere), axes).flatten(1)
    variance = components.square().sum(1)
    assert (variance.diff() <= 1e-3 * variance[0]).all()  # the first explains most
    gram = components @ components.T
    assert (gram - gram.diag().diag()).abs().max() < 1e-3 * variance[0]


def test_the_linear_model_is_the_mean_plus_the_brains_and_their_mirror_images(linear):
    mean, differences = (part[4].numpy().astype(float) for part in (SHARED.mean, SHARED.differences))
    z = np.random.default_rng(5).normal(size=linear.latent).astype(np.float32)
    expected = mean / MEAN_LEVELS
    for k in range(BRAINS):
        change = differences[k] / DIFFERENCE_LEVELS / linear.latent**0.5
        expected = expected + z[k] * change + z[BRAINS + k] * change[:, ::-1]
    slices = linear.generate(torch.from_numpy(z)[None], torch.tensor([0.4]))
    np.testing.assert_allclose(slices[0, 0].numpy(), expected, atol=1e-5)


def test_its_components_are_what_a_unit_of_each_latent_changes(linear):
    n = linear.latent
    height = torch.full((n,), 0.6)
    changed = linear.generate(torch.eye(n), height) - linear.generate(torch.zeros(n, n), height)
    torch.testing.assert_close(SHARED.components(height[:1])[0], changed[:, 0], atol=1e-5, rtol=0)


def test_a_mirrored_brain_has_the_mirrored_latent(linear):
    z, height = torch.randn(2, linear.latent), torch.tensor([0.2, 0.8])
    mirrored = linear.generate(torch.cat([z[:, BRAINS:], z[:, :BRAINS]], dim=1), height)
    torch.testing.assert_close(mirrored, linear.generate(z, height).flip(-1))


def test_between_two_slices_the_linear_model_takes_the_nearer_one(linear):
    z = torch.randn(1, linear.latent)
    assert torch.equal(linear.generate(z, torch.tensor([0.54])), linear.generate(z, torch.tensor([0.5])))
    assert not torch.equal(linear.generate(z, torch.tensor([0.56])), linear.generate(z, torch.tensor([0.5])))


def test_the_linear_model_starts_where_the_known_pixels_and_the_prior_are_most_probable(linear):
    from MedInpaintLib.models.linear import FIT_NOISE

    image, hole, height = inputs(3)
    noise = torch.randn(3, linear.latent)
    start = linear.start(image, hole, height, noise).requires_grad_()
    squared = ((1 - hole) * (linear.generate(start, height) - image) ** 2).sum() / FIT_NOISE + (start**2).sum()
    (gradient,) = torch.autograd.grad(squared, start)
    assert gradient.abs().max() < 1e-3 * squared
    painted = torch.where(hole > 0, 77.0, image)
    torch.testing.assert_close(linear.start(painted, hole, height, noise), start)


def test_the_prior_of_a_vae_and_of_the_linear_model_is_the_squared_length_of_u(vae, linear):
    for model in (vae, linear):
        u = torch.randn(3, model.latent)
        expected = [sum(x**2 for x in row) for row in u.tolist()]
        assert model.prior_loss(u, torch.zeros(3, 1, *SIZE), torch.zeros(3)).tolist() == pytest.approx(
            expected, rel=1e-5
        )


def test_a_gans_prior_is_the_logarithm_of_the_probability_of_being_generated(gan):
    z, height = torch.randn(3, gan.latent), torch.tensor([0.1, 0.5, 0.9])
    slices = gan.generate(z, height)
    probability = torch.sigmoid(gan.discriminator(slices, height))
    assert ((probability > 0) & (probability < 1)).all()
    assert probability.shape == (3,)
    torch.testing.assert_close(gan.prior_loss(0 * z, slices, height), torch.log(1 - probability), atol=1e-5, rtol=1e-4)


def test_the_discriminator_depends_on_the_height(gan):
    image = torch.rand(1, 1, *SIZE).expand(2, -1, -1, -1)
    low, high = gan.discriminator(image, torch.tensor([0.2, 0.7]))
    assert abs(low - high) > 1e-4


def test_a_gan_starts_from_the_prior_and_a_vae_from_its_encoder(vae, gan):
    image, hole, height = inputs(3)
    noise = torch.randn(3, vae.latent)
    assert torch.equal(gan.start(image, hole, height, noise), noise)
    assert torch.equal(vae.start(image, hole, height, noise), vae.encoder(image, hole, height)[0])


def test_height_features_differ_between_neighbouring_slices():
    features = height_features(torch.linspace(0, 1, 104))
    assert features.shape == (104, 16)
    torch.testing.assert_close(features[:, :8] ** 2 + features[:, 8:] ** 2, torch.ones(104, 8))
    assert (torch.cdist(features, features) + torch.eye(104)).min() > 0.5


def test_the_same_z_gives_different_brains_in_different_shipped_models():
    """They differ by more than a tenth of what the brains differ by, and so do the brains of two z in each model."""
    height = torch.tensor([0.35, 0.5, 0.65])
    z = torch.randn(2, 1, 96, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1)
    drawn = {}
    for model in shipped_models():
        network = model.network(torch.device("cpu"))
        padded = torch.nn.functional.pad(z, (0, network.latent - 96))
        drawn[model.name] = torch.stack([network.generate(one, height) for one in padded])
        brains = network.brains.components(height).square().sum(1).sqrt().mean()
    assert len(drawn) == 5
    for name, (one, two) in drawn.items():
        assert (one - two).abs().mean() > 0.1 * brains, name
        for other, (same, _) in drawn.items():
            assert other == name or (one - same).abs().mean() > 0.1 * brains, (name, other)
