"""Images that are no digits: pictures of them are read as well as the arrays they come from.

Oracles: the arrays themselves, from which the pictures are made, and the answers of the network for
them; images of tests/clothes.py, some of them nearly black, and of MNIST's form.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from clothes import CLASSES, as_folder, clothes
from PIL import Image

import evaluate
import train
from app.options import parse
from app.session import recipe_of
from data import load_dataset
from data.digits import load_digits_like_mnist
from handcnn import documented_network
from handcnn.commands import predict
from handcnn.errors import HandcnnError
from handcnn.estimator import CNNClassifier
from handcnn.models import OTHER_IMAGES, RECIPES
from handcnn.page import view
from handcnn.pictures import load_picture, prepare, prepare_whole
from handcnn.preparation import Preparation, background_of
from handcnn.storage.classifiers import read_saved_network

PICTURES = 300
# What people do with an image before they save it.
WAYS = {
    "as it is": lambda image: image,
    "inverted": lambda image: image.point(lambda grey: 255 - grey),
    "four times": lambda image: image.resize((112, 112), Image.Resampling.BICUBIC),
    "seven times, inverted": lambda image: image.resize((196, 196), 0).point(lambda g: 255 - g),
}


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of an .npz file of clothes, whose labels are 0 to 3."""
    path = tmp_path_factory.mktemp("arrays") / "clothes.npz"
    (x, y), (x_test, y_test) = clothes(1500, seed=1), clothes(PICTURES, seed=2)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return path


@pytest.fixture(scope="module")
def run(arrays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on these arrays."""
    return trained(arrays, tmp_path_factory.mktemp("runs"))


def trained(dataset: Path, outputs: Path) -> Path:
    options = ["--network", "lenet", "--epochs", "6", "--quiet", "--threads", "1"]
    command = [*options, "--dataset", str(dataset), "--output-dir", str(outputs)]
    assert train.main(command) == 0
    (folder,) = outputs.iterdir()
    return folder


def accuracy(run: Path) -> float:
    result: float = json.loads((run / "run.json").read_text())["test"]["accuracy"]
    return result


@pytest.mark.parametrize("way", WAYS)
def test_pictures_are_read_as_well_as_arrays(run: Path, way: str, tmp_path: Path) -> None:
    saved = read_saved_network(run / "weights.npz")
    images, labels = clothes(PICTURES, seed=2)
    answers = saved.net.predict(images[:, None] / np.float32(255))
    assert np.mean(answers == labels) > 0.8  # otherwise there is nothing to lose
    path, seen = tmp_path / "picture.png", []
    for image in images:
        WAYS[way](Image.fromarray(image)).save(path)
        seen.append(prepare(load_picture(path), saved.preparation).image)
    if "four" not in way:
        np.testing.assert_array_equal(seen, images)
    read = saved.net.predict(np.stack(seen)[:, None] / np.float32(255))
    assert abs(np.mean(read == labels) - np.mean(answers == labels)) <= 0.01


def test_predict_gives_the_answers_of_the_arrays_without_remarks(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, _ = clothes(40, seed=3)
    paths = [tmp_path / f"{i:02}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(255 - image).save(path)
    weights = run / "weights.npz"
    assert predict.main([*map(str, paths), "--weights", str(weights)]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    net = read_saved_network(weights).net
    expected = net.predict(images[:, None] / np.float32(255))
    assert [int(line.split()[1]) for line in lines] == expected.tolist()
    assert not any("several" in line for line in lines)
    steps = ["--show-steps", str(tmp_path / "steps.png")]
    assert predict.main([str(paths[0]), "--weights", str(weights), *steps]) == 1
    assert "is for pictures that are scaled whole; use --show" in capsys.readouterr().err


def test_the_page_prepares_as_the_network_was_trained(run: Path, tmp_path: Path) -> None:
    saved = read_saved_network(run / "weights.npz")
    images, _ = clothes(8, seed=4)
    path = tmp_path / "picture.png"
    for image in images:
        Image.fromarray(image).save(path)
        shown = view.read(saved.net, saved.class_names, saved.preparation, path.read_bytes())
        answer = saved.net.predict(image[None, None] / np.float32(255))[0]
        (digit,) = shown["digits"]
        assert (digit["answer"], shown["remark"]) == (answer, "")


def test_evaluate_inverts_a_set_of_the_other_background(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = clothes(60, seed=9)
    weights, printed = str(run / "weights.npz"), []
    for name, stored in (("as-they-are", images), ("inverted", 255 - images)):
        folder = as_folder(tmp_path / name / "set", stored, labels)
        for k, title in enumerate(CLASSES):  # the classes of `run` are numbers
            (folder / title).rename(folder / str(k))
        assert evaluate.main(["--weights", weights, "--dataset", str(folder), "--part", "all"]) == 0
        printed.append(capsys.readouterr().out.splitlines())
    note = "inverted the images, whose background is bright: the network knows dark ones"
    assert note not in printed[0]
    assert printed[1].pop(1) == note
    assert printed[0] == printed[1]


def test_a_folder_of_pictures_is_the_same_set_as_the_arrays(arrays: Path, tmp_path: Path) -> None:
    """Nearly black images included, of which a preparation for digits says that they are blank."""
    stored = np.load(arrays)
    for part in ("train", "test"):
        as_folder(tmp_path / "set" / part, stored[f"x_{part}"], stored[f"y_{part}"])
    found = load_dataset(str(tmp_path / "set")).test
    for k in range(len(CLASSES)):
        images = found.images[found.labels == k], stored["x_test"][stored["y_test"] == k]
        from_folder, from_arrays = (sorted(image.tobytes() for image in them) for them in images)
        assert from_folder == from_arrays
    folder = trained(tmp_path / "set", tmp_path / "runs")
    assert accuracy(folder) > 0.8
    metadata = read_saved_network(folder / "weights.npz")
    assert metadata.preparation == ("whole", "dark")
    assert metadata.class_names == list(CLASSES)


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        ("0 1 2 3", None, "digits"),
        ("Bag Boot Coat Shirt", None, "whole"),
        ("Bag Boot Coat Shirt", "digits", "digits"),
        ("0 1 2 3", "whole", "whole"),
    ],
)
def test_the_classes_or_an_option_decide_how_a_folder_is_prepared(
    names: str, asked: str | None, expected: str, tmp_path: Path
) -> None:
    digits, labels = load_digits_like_mnist()
    for name, label in zip(names.split(), range(4), strict=True):
        (tmp_path / name).mkdir()
        for i, image in enumerate(digits[labels == label][:6]):
            drawn = Image.fromarray(255 - np.pad(image, ((0, 0), (30, 40))))  # not in the middle
            drawn.save(tmp_path / name / f"{i}.png")
    dataset = load_dataset(str(tmp_path), prepare=asked, say=lambda line: None)
    assert dataset.record["preparation"] == expected
    heights = [np.count_nonzero(np.ptp(image, axis=1) > 60) for image in dataset.images]
    assert (min(heights) > 15) == (expected == "digits")  # of the ink, in pixels


def test_what_decides_for_arrays_are_the_images(tmp_path: Path) -> None:
    """Clothes as files have the labels 0 to 9, as digits do."""
    drawn, labels = load_digits_like_mnist()
    path = tmp_path / "arrays.npz"
    shirts, _ = clothes(len(labels), seed=5)
    for images, expected, said in (
        (drawn, ("digits", "dark"), 0),
        (shirts, ("whole", "dark"), 0),
        (255 - drawn, ("whole", "bright"), 1),
    ):
        np.savez(path, x=images, y=labels)
        lines: list[str] = []
        dataset = load_dataset(str(path), say=lines.append)
        assert dataset.preparation == expected
        assert sum("add --invert" in line for line in lines) == said
    np.savez(path, x=255 - drawn, y=labels)
    assert load_dataset(str(path), invert=True, say=print).preparation.name == "digits"


@pytest.mark.parametrize("background", ["dark", "bright", "any"])
def test_the_background_of_a_set(background: str) -> None:
    images, _ = clothes(400, seed=6)
    count = {"dark": 0, "bright": 400, "any": 200}[background]
    images[:count] = 255 - images[:count]
    assert background_of(images) == background
    for image in images[:: 400 // 8]:
        np.testing.assert_array_equal(prepare_whole(image.astype(np.float32), background), image)


def test_a_picture_that_is_no_square_is_padded_with_its_background() -> None:
    image = np.full((56, 28), 200.0)
    image[20:40, 8:20] = 30
    whole = prepare_whole(image)
    assert (whole[:, :7] == 200).all()
    assert (whole[:, 21:] == 200).all()
    np.testing.assert_array_equal(whole[:, 7:21], image[::2, ::2])


def test_a_small_picture_is_enlarged() -> None:
    assert prepare_whole(np.full((3, 2), 90.0)).tolist() == np.full((28, 28), 90).tolist()


def test_weights_remember_and_old_ones_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    net = documented_network(rng=np.random.default_rng(0))
    for metadata, expected in (
        ({}, ("digits", "dark")),
        ({"classes": [*"abcdefghij"]}, ("whole", "dark")),
        ({"preparation": "whole", "background": "bright"}, ("whole", "bright")),
    ):
        net.save(path, **metadata)
        assert read_saved_network(path).preparation == expected
    for metadata in ({"preparation": "sideways"}, {"background": ["dark"]}):
        net.save(path, **metadata)
        with pytest.raises(HandcnnError, match="prepared in an unknown way"):
            read_saved_network(path)


# Recipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", RECIPES)
@pytest.mark.parametrize("given", [{}, {"augment": "distort"}, {"epochs": 3}])
def test_the_recipe_fits_the_images(network: str, given: dict[str, object], arrays: Path) -> None:
    typed = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    request = parse(["--network", network, "--dataset", str(arrays), *typed], "")
    dataset = load_dataset(str(arrays), say=print)
    recipe = asdict(RECIPES[network]) | OTHER_IMAGES.get(network, {}) | given
    found = asdict(recipe_of(request, dataset))
    if "epochs" not in given:  # few images need more
        assert found.pop("epochs") >= recipe.pop("epochs")
    assert found == recipe
    assert {"augment": "none"} | given == {"augment": found["augment"]} | given


def test_digits_keep_the_recipe_for_digits() -> None:
    request = parse(["--network", "lenet", "--dataset", "digits"], "")
    assert recipe_of(request, load_dataset("digits")).augment == "handwriting"


def test_the_options_line_says_what_was_chosen(
    arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--network", "lenet", "--epochs", "1", "--limit", "100", "--dataset", str(arrays)]
    assert train.main([*command, "--output-dir", str(tmp_path)]) == 0
    options = " ".join(capsys.readouterr().out.split("folder ")[0].split())
    assert "--augment none" in options
    assert "--prepare whole" in options
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "run.json").read_text())["options"]["prepare"] == "whole"
    with pytest.raises(SystemExit):
        sys.exit(train.main(["--resume", str(folder), "--epochs", "1", "--prepare", "digits"]))
    assert "was trained with --prepare whole" in capsys.readouterr().err


def test_a_classifier_takes_the_recipe_that_fits(tmp_path: Path) -> None:
    """With labels that might be digits', too; it says in its file how to prepare pictures."""
    images, labels = clothes(120, seed=7)
    drawn, digits = load_digits_like_mnist()
    path = tmp_path / "weights.npz"
    for X, y, expected in (
        (images, labels, ("whole", "dark")),
        (255 - images, labels, ("whole", "bright")),
        (drawn[:120] / np.float32(255), digits[:120], ("digits", "dark")),
    ):
        classifier = CNNClassifier("lenet", epochs=1, random_state=0, threads=1).fit(X, y)
        assert classifier.preparation_ == Preparation(*expected)
        classifier.save(path)
        assert read_saved_network(path).preparation == expected
        assert CNNClassifier.load(path).preparation_ == expected
