"""The latent search, on a small VAE with synthetic weights, so that the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from MedInpaintLib.errors import Cancelled, InputError
from MedInpaintLib.models.gan import GAN
from MedInpaintLib.models.linear import Brains, Linear
from MedInpaintLib.models.vae import LATENT, VAE
from MedInpaintLib.prediction import generate
from MedInpaintLib.search import latent
from MedInpaintLib.search.context import context_weights
from MedInpaintLib.search.device import choose_device
from MedInpaintLib.search.latent import CORRELATION, search, slice_coupling
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.intensities import LEVELS
from MedInpaintLib.space.slices import Slices
from scipy.ndimage import distance_transform_edt, gaussian_filter
from synthetic import brains_of

SIZE = (32, 32)
BRAINS = 2
COUNT = 32
HEIGHTS = np.array([9, 10, 20])
GAIN, OFFSET = 1.1, 0.03
SETTINGS = Settings(iterations=8, window=9)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = VAE(smooth_brains(), 3)
    with torch.no_grad():
        network.initialise_skip()
        network.generator.out.weight.normal_(std=0.001)
        network.encoder.out.weight.normal_(std=0.05)
    return network.requires_grad_(False).eval()


def smooth_brains():
    """Synthetic brains that a small displacement changes little."""
    brains = brains_of(COUNT, BRAINS, SIZE)
    mean = 100 + 5 * (gaussian_filter(brains.mean.numpy().astype(float), (0, 2, 2)) - 100)
    differences = 8 * gaussian_filter(brains.differences.numpy().astype(float), (0, 0, 2, 2))
    return Brains(torch.from_numpy(mean.astype(np.uint8)), torch.from_numpy(differences.astype(np.int8)))


def decoded(network, z, heights=HEIGHTS):
    with torch.no_grad():
        return network.generate(z, torch.as_tensor(heights / (COUNT - 1), dtype=torch.float32))[:, 0].numpy()


@pytest.fixture(scope="module")
def truth(network):
    z = 0.7 * torch.randn(len(HEIGHTS), LATENT, generator=torch.Generator().manual_seed(3))
    return GAIN * decoded(network, z) + OFFSET


@pytest.fixture(scope="module")
def slices(truth):
    hole = np.zeros(truth.shape, bool)
    hole[:, 10:20, 12:24] = True
    context = ~hole
    context[:, :, :3] = False
    return Slices(np.where(hole, 0, truth).astype(np.float32), hole, hole, context, HEIGHTS, 1.0)


def run(network, slices, settings=SETTINGS, progress=lambda fraction, message: None, **options):
    return search(network, slices, COUNT, settings, progress, **options)[0]


def encoded(network, slices):
    with torch.no_grad():
        return network.encoder(
            torch.from_numpy(slices.image)[:, None],
            torch.from_numpy(slices.unknown)[:, None].float(),
            torch.as_tensor(slices.heights / (COUNT - 1), dtype=torch.float32),
        )[0]


def test_content_that_the_model_can_make_is_found_with_the_scans_gain_and_offset(network, slices, truth):
    found = run(network, slices, Settings(iterations=300, prior=False, window=9))
    start = run(network, slices, Settings(iterations=0, prior=False, window=9))
    error, at_start = (np.abs(result.slices - truth)[slices.hole].mean() for result in (found, start))
    assert error < 0.01  # of intensities that vary by about 0.15
    assert error < 0.1 * at_start
    shown = slice(4, 8)  # the levels of most pixels
    np.testing.assert_allclose(found.curve[shown], (GAIN * LEVELS + OFFSET)[shown], atol=0.03)
    assert (found.losses < 0.1 * start.losses).all()


def test_without_iterations_the_result_is_the_encoders(network, slices):
    found = run(network, slices, replace(SETTINGS, iterations=0))
    np.testing.assert_allclose(found.slices, decoded(network, encoded(network, slices)), atol=1e-5)
    np.testing.assert_allclose(found.curve, LEVELS, atol=1e-6)
    assert found.iterations == 0


@pytest.mark.parametrize(
    "change", [{}, {"weighting": False}, {"prior": False}, {"prior_weight": 0.25}], ids=lambda c: str(c)
)
def test_the_loss_is_the_weighted_difference_plus_the_prior(network, slices, change):
    settings = replace(SETTINGS, iterations=0, **change)
    z = encoded(network, slices)
    weights = context_weights(slices.hole, slices.context, HEIGHTS, settings.window, settings.weighting)
    expected = (weights * np.abs(decoded(network, z) - slices.image)).sum(axis=(1, 2))
    independent = torch.linalg.inv(slice_coupling(HEIGHTS)) @ z
    weight = (settings.prior_weight or network.prior_weight) if settings.prior else 0
    expected += weight * (independent**2).sum(1).numpy()
    np.testing.assert_allclose(run(network, slices, settings).losses, expected, rtol=1e-5)


def test_neither_the_hole_nor_what_is_no_context_is_fitted(network, slices):
    hidden = ~slices.context
    painted = replace(slices, image=np.where(slices.hole, np.float32(77), slices.image))
    assert run(network, slices).slices.tobytes() == run(network, painted).slices.tobytes()
    # Pixels outside the context reach only the encoder. Hidden from the encoder too, they do not matter at all.
    blind = replace(slices, unknown=hidden)
    painted = replace(blind, image=np.where(hidden, np.float32(77), slices.image))
    assert run(network, blind).slices.tobytes() == run(network, painted).slices.tobytes()


def test_what_is_unknown_but_not_to_be_filled_draws_no_weight(network, slices):
    more = slices.unknown.copy()
    more[:, 25:] = True
    found = run(network, replace(slices, unknown=more, context=slices.context & ~more), SETTINGS)
    weights = context_weights(slices.hole, slices.context & ~more, HEIGHTS, SETTINGS.window)
    difference = np.abs(found.slices - slices.image) * weights
    assert (found.losses >= 0.999 * difference.sum(axis=(1, 2))).all()
    assert (found.losses <= difference.sum(axis=(1, 2)) + 10).all()


# The coupling of the slices


def test_the_coupling_gives_the_latents_of_slices_the_correlation_of_their_distance():
    coupling = slice_coupling(HEIGHTS)
    distance = np.abs(HEIGHTS[:, None] - HEIGHTS)
    np.testing.assert_allclose(coupling @ coupling.T, CORRELATION**distance, atol=1e-6)
    assert torch.equal(coupling, coupling.tril())


def test_a_known_neighbour_informs_a_slice_of_which_nothing_is_known(network):
    heights = np.arange(10, 15)
    z = torch.randn(1, LATENT, generator=torch.Generator().manual_seed(8)).expand(len(heights), -1)
    truth = decoded(network, z, heights)
    hole = np.zeros(truth.shape, bool)
    hole[2] = True
    slices = Slices(np.where(hole, 0, truth).astype(np.float32), hole, hole, ~hole, heights, 1.0)
    found = run(network, slices, Settings(iterations=200, prior_weight=0.001, window=9)).slices[2]
    plain = decoded(network, torch.zeros(1, LATENT), heights[2:3])[0]
    assert np.abs(found - truth[2]).mean() < 0.7 * np.abs(plain - truth[2]).mean()


def test_an_overwhelming_prior_gives_the_most_plausible_slice(network, slices, monkeypatch):
    monkeypatch.setattr(latent, "SETTLED", -np.inf)
    monkeypatch.setattr(latent, "KNOT_WEIGHT", 1e6)
    found = run(network, slices, Settings(iterations=400, prior_weight=1e6, window=9))
    expected = np.interp(decoded(network, torch.zeros(len(HEIGHTS), LATENT)), LEVELS, found.curve)
    np.testing.assert_allclose(found.slices, expected, atol=5e-3)
    assert np.abs(encoded(network, slices).numpy()).max() > 0.05  # it did not start there


def test_a_search_lowers_the_loss(network, slices):
    start = run(network, slices, replace(SETTINGS, iterations=0))
    assert run(network, slices, replace(SETTINGS, iterations=25)).losses.sum() < start.losses.sum()


@pytest.fixture
def gan():
    torch.manual_seed(0)
    network = GAN(smooth_brains(), 3)
    with torch.no_grad():
        network.generator.out.weight.normal_(std=0.02)
    return network.requires_grad_(False).eval()


def test_a_gans_latents_stay_within_their_bound(gan, slices, monkeypatch):
    monkeypatch.setattr(gan, "latent_bound", 0.5)
    descent = latent._Descent(gan, [slices], COUNT, SETTINGS)
    assert descent.u.abs().max() == gan.latent_bound  # drawn from a standard normal prior
    for _ in range(5):
        descent.step()
    assert descent.u.abs().max() <= gan.latent_bound


def test_a_gans_search_leads_to_slices_that_its_discriminator_takes_for_real(gan, slices):
    losses = []
    for weight in (0.0, 1e4):
        descent = latent._Descent(gan, [slices], COUNT, replace(SETTINGS, prior_weight=weight, iterations=20))
        for _ in range(20):
            descent.step()
        z, _ = descent._latents(descent.whole)
        losses.append(gan.prior_loss(descent.u, gan.generate(z, descent.height), descent.height).sum())
    assert losses[1] < losses[0]


def test_each_step_descends_through_the_convolutions(gan, slices):
    """A GAN's G depends on z through them alone."""
    descent = latent._Descent(gan, [slices], COUNT, replace(SETTINGS, prior=False))
    before = descent.u.detach().clone()
    descent.step()
    assert ((descent.u - before).abs() > 0.01).float().mean() > 0.95


def test_slice_by_slice_a_search_knows_no_neighbours_no_gain_and_no_deformation(network, slices):
    settings = replace(SETTINGS, slicewise=True)
    found = run(network, slices, settings)
    assert found.curve.tolist() == pytest.approx(LEVELS.tolist())
    painted = slices.image.copy()
    painted[1:] += 0.1  # other slices
    other = run(network, replace(slices, image=painted), settings)
    assert found.slices[0].tobytes() == other.slices[0].tobytes()
    assert found.slices[1].tobytes() != other.slices[1].tobytes()
    together = (run(network, replace(slices, image=image), SETTINGS) for image in (slices.image, painted))
    assert len({each.slices[0].tobytes() for each in together}) == 2
    with torch.no_grad():  # what it found is a slice of the generator as it is
        descent = latent._Descent(network, [slices], COUNT, settings)
    for _ in range(settings.iterations):
        descent.step()
    z, _ = descent._latents(descent.whole)
    np.testing.assert_allclose(found.slices, decoded(network, z.detach()), atol=1e-4)


def test_the_linear_model_is_searched_from_the_most_probable_latent(slices):
    model = Linear(smooth_brains())
    start, found = (run(model, slices, replace(SETTINGS, iterations=n)) for n in (0, 20))
    assert found.losses.sum() < start.losses.sum()


def test_a_pixelwise_model_is_compared_in_the_rows_near_the_hole(slices, monkeypatch):
    monkeypatch.setattr(latent, "ROWS", 4)
    model = Linear(smooth_brains())
    assert latent.rows_near(slices.hole) == slice(6, 24)  # the hole has the rows 10 to 19
    descent = latent._Descent(model, [slices], COUNT, SETTINGS)
    with torch.no_grad():
        descent.knots += torch.randn(descent.knots.shape, generator=torch.Generator().manual_seed(0)) / 4
        every = slice(0, len(HEIGHTS))
        (loss, near), (all_loss, whole) = (
            descent._loss(view, *descent._latents(view), every) for view in (descent.near, descent.whole)
        )
    assert near.shape[2] == 18
    inner = slice(2, -2)  # the outermost rows may move in from rows that are left out
    torch.testing.assert_close(near[:, :, inner], whole[:, :, 6:24][:, :, inner], atol=1e-5, rtol=0)
    torch.testing.assert_close(loss, all_loss, rtol=1e-2, atol=0)

    changed = slices.image.copy()
    changed[:, 28:] += 0.2
    far, near_hole = (
        run(model, replace(slices, image=image), replace(SETTINGS, iterations=0)).losses
        for image in (changed, slices.image)
    )
    assert far.tolist() != near_hole.tolist()  # the start sees all rows


def test_a_network_and_the_search_of_the_paper_see_all_rows(network, slices):
    for model, settings in ((network, SETTINGS), (Linear(smooth_brains()), replace(SETTINGS, slicewise=True))):
        descent = latent._Descent(model, [slices], COUNT, settings)
        assert descent.near.scans[0].image.shape == (*slices.image.shape[:1], 1, *slices.image.shape[1:])


def test_the_curve_of_a_result_makes_its_slices_of_its_tissue(network, slices):
    bent = replace(slices, curve=np.interp(LEVELS, (0, 0.3, 1.2), (0.9, 0.7, 0.1)))
    for scan in (slices, bent):
        found = run(network, scan)
        np.testing.assert_allclose(found.through_curve(found.tissue), found.slices, atol=1e-5)
    beyond = np.array([LEVELS[-1] + 1])
    assert run(network, slices).through_curve(beyond) > run(network, slices).through_curve(LEVELS[-1:]) + 0.5


def test_kriging_the_residual_brings_the_ring_closer_to_the_scan_and_changes_the_hole(network, slices):
    plain, kriged = (
        generate(network, [slices], COUNT, replace(SETTINGS, residual=on), lambda *_: None)[0] for on in (False, True)
    )
    ring = slices.context & (distance_transform_edt(~slices.hole) <= 4)
    before, after = (np.abs(each.slices - slices.image)[ring].mean() for each in (plain, kriged))
    assert after < 0.8 * before
    assert not np.array_equal(plain.slices[slices.hole], kriged.slices[slices.hole])
    assert plain.deviation is None
    assert (kriged.deviation[slices.hole] > 0).all()
    assert (kriged.deviation[~slices.hole] == 0).all()


def test_the_components_are_those_of_the_brains_and_not_of_the_network(network, slices):
    settings = replace(SETTINGS, iterations=0)
    _, components = search(network, slices, COUNT, settings, lambda *_: None)
    pixels = slices.hole[1]
    height = torch.as_tensor(HEIGHTS[1:2] / (COUNT - 1), dtype=torch.float32)
    expected = network.brains.components(height)[0, :, pixels].T
    np.testing.assert_allclose(components(1, pixels), expected, atol=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(gan, slices):
    first, again, other = (run(gan, slices, replace(SETTINGS, seed=seed)) for seed in (5, 5, 6))
    assert first.slices.tobytes() == again.slices.tobytes()
    assert first.losses.tobytes() == again.losses.tobytes()
    assert first.slices.tobytes() != other.slices.tobytes()


def test_a_search_leaves_torchs_own_random_state_alone(network, slices):
    before = torch.get_rng_state()
    run(network, slices, replace(SETTINGS, iterations=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("chunk", [1, 4])
def test_cutting_the_batch_to_fit_memory_does_not_change_the_result(network, slices, chunk):
    whole = run(network, slices)
    cut = run(network, slices, chunk=chunk)
    np.testing.assert_allclose(cut.slices, whole.slices, atol=3e-4)  # rounding, turned into steps by L1's sign
    np.testing.assert_allclose(cut.losses, whole.losses, rtol=1e-3)


def test_a_settled_search_stops_early_and_says_after_how_many_steps(network, slices, monkeypatch):
    monkeypatch.setattr(latent, "SETTLED", 0.05)
    fractions = []
    settings = replace(SETTINGS, iterations=1000)
    found = run(network, slices, settings, lambda fraction, message: fractions.append(fraction))
    assert 0 < found.iterations < 500
    assert len(fractions) == found.iterations
    assert fractions == sorted(fractions)


def test_progress_counts_up_to_one(network, slices):
    fractions = []
    run(network, slices, replace(SETTINGS, iterations=4), lambda fraction, message: fractions.append(fraction))
    assert fractions == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_a_cancelled_search_stops_at_once(network, slices):
    calls = []

    def progress(fraction, message):
        calls.append(fraction)
        if len(calls) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(network, slices, progress=progress)
    assert len(calls) == 3


def test_the_search_leaves_the_network_as_it_was(network, slices):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    run(network, slices, replace(SETTINGS, iterations=2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.fixture
def computer(monkeypatch):
    """A computer with these accelerators."""

    def with_devices(cuda, mps):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return with_devices


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_by_its_name(computer, name):
    computer(cuda=False, mps=False)
    with pytest.raises(InputError, match=rf"no {name} device.*--device cpu"):
        choose_device(name)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_device_there_is(computer, cuda, mps, chosen):
    computer(cuda, mps)
    assert choose_device("auto").type == chosen
    assert choose_device("cpu").type == "cpu"
