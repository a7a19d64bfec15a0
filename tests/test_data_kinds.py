"Data as people have it: what becomes of each object, or the sentence where nothing can."
import json
import os
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from pix2seq.data import CocoDataset, check_trainable, limits, opened, split_off
from pix2seq.layouts import find_coco

BOX, SIZE, CLASSES = [10, 5, 20, 30], (64, 48), ((1, "disc"), (2, "box"))


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path, format="PNG")


def coco(folder, path, n=3, name="{}.jpg", written=None, classes=CLASSES,
         edit=lambda document: None, size=SIZE):
    "`n` images and a COCO-format file of a box in each, of the classes in turn; `edit` changes it."
    images, annotations = [], []
    for i in range(1, n + 1):
        picture(folder/name.format(i), size)
        file = (written or name).format(i)
        images.append(dict(id=i, file_name=file, width=size[0], height=size[1]))
        annotations.append(dict(id=i, image_id=i, category_id=classes[i % len(classes)][0],
                                bbox=BOX, area=600, iscrowd=0))
    categories = [dict(id=k, name=word) for k, word in classes]
    document = dict(images=images, annotations=annotations, categories=categories)
    edit(document)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return folder, path


def each(table, **fields):
    "An edit that sets fields of every row; a function is called with the row."
    def edit(document):
        for row in document[table]:
            row.update({k: v(row) if callable(v) else v for k, v in fields.items()})
    return edit


@pytest.fixture
def root(tmp_path): return tmp_path/"data"


def usual(root, **how): return CocoDataset(*coco(root/"train", root/"train.json", **how))


def refused(message, function, *args, **options):
    with pytest.raises((ValueError, OSError), match=message): function(*args, **options)


def is_usual(dataset):
    "Three images, the box in each, the classes in turn."
    found = [(sample["boxes"].tolist(), sample["labels"].tolist()) for sample in dataset]
    return found == [([[10, 5, 30, 35]], [label]) for label in (1, 0, 1)]


# classes

def test_classes_follow_the_ids_and_names_of_the_model(root):
    dataset = CocoDataset(*coco(root/"a", root/"a.json"), (7, 2, 1), ("bird", "Box ", "disc"))
    assert dataset.labels.tolist() == [1, 2, 1]
    assert (dataset.class_names, dataset.category_ids) == (("bird", "Box ", "disc"), (7, 2, 1))
    assert dataset.file_ids == (None, 2, 1)


def test_exchanged_names_are_refused(root):
    refused("category 1 is 'disc' in .*a.json but 'box' in the model's classes.*--by-name",
            CocoDataset, *coco(root/"a", root/"a.json"), (1, 2), ("box", "disc"))


def test_exchanged_names_match_by_name_when_asked(root):
    dataset = CocoDataset(*coco(root/"a", root/"a.json"), (1, 2), ("box", "disc"), by_name=True)
    assert dataset.labels.tolist() == [0, 1, 0] and dataset.file_ids == (2, 1)


def test_other_ids_with_known_names_match_and_are_printed(root, capsys):
    dataset = CocoDataset(*coco(root/"a", root/"a.json"), (11, 12), ("disc", "box"))
    assert is_usual(dataset)
    assert "'disc' is 1 here and 11 in the model" in capsys.readouterr().out


def test_names_match_in_any_unicode_form_and_case(root):
    here = ((1, unicodedata.normalize("NFD", "Öse")), (2, " Straße"))
    files = coco(root/"a", root/"a.json", classes=here)
    assert is_usual(CocoDataset(*files, (1, 2), ("öse", "STRASSE")))


def test_an_unknown_class_with_boxes_is_listed(root):
    files = coco(root/"a", root/"a.json")
    refused("does not know: 'box' \\(id 2\\)", CocoDataset, *files, (1,), ("disc",))


def test_an_unknown_class_without_boxes_is_no_error(root):
    def edit(document): document["categories"].append(dict(id=3, name="star"))
    assert is_usual(CocoDataset(*coco(root/"a", root/"a.json", edit=edit), (1, 2), ("disc", "box")))


def test_a_model_without_names_matches_by_id(root):
    dataset = CocoDataset(*coco(root/"a", root/"a.json"), (0, 1, 2))
    assert dataset.labels.tolist() == [2, 1, 2] and dataset.class_names == ("0", "disc", "box")


def test_one_name_for_two_classes_is_fine_but_by_name(root):
    files = coco(root/"a", root/"a.json", classes=((1, "disc"), (2, "disc")))
    assert is_usual(CocoDataset(*files)) and is_usual(CocoDataset(*files, (1, 2), ("disc", "disc")))
    refused("more than one class named 'disc'", CocoDataset, *files, (1, 2), ("disc", "box"), True)


def test_validation_agrees_with_training(root):
    coco(root/"train", root/"train.json")
    coco(root/"val", root/"val.json", classes=CLASSES[::-1])
    train = CocoDataset.from_folder(root)
    val = CocoDataset.from_folder(root, "val", train.category_ids, train.class_names)
    assert val.labels.tolist() == [0, 1, 0] and val.class_names == ("disc", "box")


# ids and fields

ONE_THING = {
    "image string": each("images", id=lambda r: str(r["id"])),
    "annotation string": each("annotations", image_id=lambda r: str(r["image_id"])),
    "image float": each("images", id=lambda r: float(r["id"])),
    "category float": each("categories", id=lambda r: float(r["id"])),
    "annotation float": each("annotations", image_id=lambda r: float(r["image_id"])),
    "its category float": each("annotations", category_id=lambda r: float(r["category_id"])),
    "its category string": each("annotations", category_id=lambda r: str(r["category_id"])),
    "crowd string": each("annotations", iscrowd="0"),
    "crowd false": each("annotations", iscrowd=False),
    "annotation id null": each("annotations", id=None),
}


@pytest.mark.parametrize("name", ONE_THING)
def test_ids_that_mean_one_thing(root, name): assert is_usual(usual(root, edit=ONE_THING[name]))


def test_crowds_as_words(root):
    dataset = usual(root, edit=each("annotations", iscrowd=lambda r: ["1", "0", True][r["id"] - 1]))
    assert dataset.iscrowd.tolist() == [True, False, True]


@pytest.mark.parametrize("edit, message", [
    (each("images", id=lambda r: r["id"] if r["id"] < 3 else "x"),
     "has the image id 'x'; .* whole"),
    (each("images", id=lambda r: r["id"] + 2**64), f"has the image id {2**64 + 1}"),
    (each("images", id=lambda r: r["id"] + 0.5), "has the image id 1.5"),
    (each("annotations", image_id="01"), "of image '01', which is not listed"),
    (each("annotations", category_id=9), "annotation 1 is of category 9, which is not listed"),
    (each("annotations", iscrowd="maybe"), "has the iscrowd 'maybe'; expected 0 or 1"),
    (each("annotations", bbox="1 2 3 4"), "has the bbox '1 2 3 4'; expected"),
], ids="mixed beyond fraction zeros orphan crowd box".split())
def test_ids_that_mean_nothing_are_quoted(root, edit, message):
    refused(message, usual, root, edit=edit)


def test_boxes_follow_from_polygons(root):
    polygon = [[10, 5, 30, 5, 30, 35, 10, 35]]
    assert is_usual(usual(root, edit=each("annotations", bbox=None, segmentation=polygon)))


@pytest.mark.parametrize("packed", [False, True])
def test_boxes_follow_from_masks(root, packed):
    from pycocotools import mask as masks
    pixels = np.zeros((48, 64), np.uint8)
    pixels[5:35, 10:30] = 1
    mask = masks.encode(np.asfortranarray(pixels))
    mask["counts"] = mask["counts"].decode()
    runs = dict(size=[48, 64], counts=[10*48 + 5, *[30, 18]*19, 30, 64*48 - 29*48 - 35])
    edit = each("annotations", bbox=[], segmentation=mask if packed else runs)
    assert is_usual(usual(root, edit=edit))


def test_neither_box_nor_outline(root):
    def edit(document): del document["annotations"][1]["bbox"]
    refused("annotation 2 has no 'bbox', and no outline", usual, root, edit=edit)


# boxes that are something else

def test_fractions_are_named(root):
    edit = each("annotations", bbox=[0.1, 0.2, 0.3, 0.4])
    refused("are fractions of the image", usual, root, edit=edit)


def test_corners_are_named(root):
    edit = each("annotations", bbox=[40, 30, 60, 40])
    refused("look like corners .*3 of 3 leave their image", usual, root, edit=edit)


def test_large_boxes_are_no_corners(root):
    with pytest.warns(UserWarning, match="3 reached out of it"):
        dataset = usual(root, edit=each("annotations", bbox=[5, 30, 70, 10]))
    assert dataset[0]["boxes"].tolist() == [[5, 30, 64, 40]]


# what can be trained on

@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("edit, message", [
    (lambda document: document.update(annotations=[]), "no box to train on: the file lists none"),
    (each("annotations", iscrowd=1), "no box to train on: 3 are crowds"),
    (each("annotations", bbox=[100, 100, 5, 5]), "3 were dropped"),
], ids=["none", "crowds", "dropped"])
def test_nothing_to_train_on(root, edit, message):
    refused(message, check_trainable, usual(root, edit=edit))


def test_swapped_sizes_are_named(root):
    dataset = usual(root, edit=each("images", width=48, height=64))
    refused("none of 3 images .* height and width are exchanged", check_trainable, dataset)


def test_pointers_are_named(root):
    files = coco(root/"train", root/"train.json")
    for path in files[0].iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused("git lfs pull", check_trainable, CocoDataset(*files))


def test_a_pointer_in_place_of_the_annotations_is_named(root):
    files = coco(root/"train", root/"train.json")
    files[1].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused("Git-LFS pointer .*git lfs pull", CocoDataset, *files)


def test_one_readable_image_is_enough(root):
    dataset = usual(root)
    for name in ("1.jpg", "2.jpg"): (root/"train"/name).write_bytes(b"")
    check_trainable(dataset)


def test_missing_images_say_where(root):
    files = coco(root/"train", root/"train.json")
    (root/"train"/"2.jpg").unlink()
    refused(f"1 of 3 images of .*train.json are not in {root/'train'}; 2.jpg", CocoDataset, *files)


# what is printed

def test_opened_says_all(root):
    edit = each("annotations", iscrowd=lambda r: int(r["id"] == 2))
    assert opened(usual(root, edit=edit)) == (f"{root/'train.json'}: 3 images in {root/'train'}, "
                                              "3 boxes (1 of them crowds), 2 classes: disc, box")


def test_limits_say_what_to_set(root):
    def edit(document):
        rows = [dict(document["annotations"][0], id=9 + k, bbox=[k, k, 1, 4]) for k in range(9)]
        document["annotations"] += rows
        document["categories"].append(dict(id=3, name="root"))
    dataset = usual(root, edit=edit)
    line = limits(dataset, 4, (24, 32))
    assert "1 of 3 images have more than 4 objects, so 50.00% of all boxes" in line
    assert "set max_instances to 10" in line and "'root' (id 3)" in line
    assert "9 of 12 boxes are narrower than a pixel on the canvas of 24x32" in line


def test_within_the_limits_there_is_no_line(root): assert limits(usual(root), 8, (96, 96)) is None


# validation

def test_split_off_is_seeded_and_whole(root):
    dataset = usual(root, n=20)
    train, val = split_off(dataset, 0.2, 3)
    assert (len(train), len(val)) == (16, 4)
    ids = [[part.image_id(i) for i in range(len(part))] for part in (train, val)]
    assert sorted(ids[0] + ids[1]) == list(range(1, 21))
    assert torch.equal(split_off(dataset, 0.2, 3)[1].image_ids, val.image_ids)
    assert not torch.equal(split_off(dataset, 0.2, 4)[1].image_ids, val.image_ids)
    for part in (train, val):
        assert (part.class_names, part.category_ids) == (dataset.class_names, dataset.category_ids)
        assert all(s["boxes"].tolist() == [[10, 5, 30, 35]] for s in part)
        assert all(s["labels"].tolist() == [s["image_id"] % 2] for s in part)


def test_split_off_shares_out_images_without_boxes(root):
    dataset = usual(root, n=10, edit=lambda d: d.update(annotations=d["annotations"][:2]))
    train, val = split_off(dataset, 0.25, 0)
    assert (len(train.boxes), len(val.boxes), len(val)) == (1, 1, 3)
    check_trainable(train)
    check_trainable(val)


def test_split_off_refuses(root):
    refused("expected 0 < share < 1", split_off, usual(root), 1.5, 0)
    one = usual(root, edit=lambda d: d.update(annotations=d["annotations"][:1]))
    refused("has 1 image with boxes", split_off, one, 0.5, 0)


# layouts

LAYOUTS = {
    "coco": ("train2017", "annotations/instances_train2017.json", "{}.jpg"),
    "keypoints": ("train2017", "annotations/person_keypoints_train2017.json", "{}.jpg"),
    "roboflow": ("train", "train/_annotations.coco.json", "{}.jpg"),
    "cvat": ("images", "annotations/instances_default.json", "{}.jpg"),
    "cvat subset": ("images/Train", "annotations/instances_Train.json", "{}.jpg"),
    "fiftyone": ("data", "labels.json", "{}.jpg"),
    "label studio": ("images", "result.json", "images\\{}.jpg"),
    "label studio above": ("images", "result.json", "../data/images/{}.jpg"),
    "label studio url": ("images", "result.json", "/data/local-files/?d=images/{}.jpg"),
    "label studio upload": ("images", "result.json", "/data/upload/4/{}.jpg"),
    "prefixed": ("train", "annotations/train.json", "train/{}.jpg"),
    "prefixed in images": ("images/train", "annotations/train.json", "images/train/{}.jpg"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_found(root, name):
    images, path, written = LAYOUTS[name]
    coco(root/images, root/path, written=written)
    assert find_coco(root, "train") == (root/images, root/path)
    assert is_usual(CocoDataset.from_folder(root))


def test_absolute_names_of_existing_files(root):
    coco(root/"images", root/"result.json", written=f"{root}/images/{{}}.jpg")
    assert is_usual(CocoDataset.from_folder(root))


@pytest.mark.parametrize("copy", ["train-old", "train (1)", "old_train", "train_backup"])
def test_copies_are_never_taken(root, copy):
    coco(root/"train", root/"annotations"/f"{copy}.json", classes=((1, "OLD"),))
    coco(root/"train", root/"annotations"/"train.json")
    assert CocoDataset.from_folder(root).class_names == ("disc", "box")


def test_two_that_could_be_meant_are_both_named(root):
    coco(root/"train", root/"annotations"/"train-a.json")
    coco(root/"train", root/"annotations"/"train-b.json")
    refused("annotations/train-a.json or annotations/train-b.json could be meant",
            find_coco, root, "train")


def test_the_test_split_is_not_for_validation(root):
    for split in ("train", "test"): coco(root/split, root/split/"_annotations.coco.json")
    refused("no validation split .*the test split is not used.*--val-share 0.1.*--val-json",
            find_coco, root, "val")
    assert find_coco(root, "test")[0] == root/"test"


def test_no_validation_offers_a_share(root):
    coco(root/"images", root/"annotations"/"instances_default.json")
    refused("no validation split.*--val-share 0.1", CocoDataset.from_folder, root, "val")


def test_what_is_not_understood_lists_what_is(root):
    picture(root/"pictures"/"1.jpg")
    (root/"boxes.csv").touch()
    refused("holds boxes.csv, pictures/; the layouts known are .*COCO.*Roboflow.*CVAT.*FiftyOne"
            ".*Label Studio.*Pascal VOC.*YOLO", find_coco, root, "train")


# Pascal VOC and YOLO

def voc(root, n=3, database="Unknown", images="JPEGImages"):
    for i in range(1, n + 1):
        picture(root/images/f"{i}.jpg")
        path = root/"Annotations"/f"{i}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"""<?xml version="1.0"?>
        <annotation><filename>{i}.jpg</filename><source><database>{database}</database></source>
        <size><width>64</width><height>48</height><depth>3</depth></size>
        <object><name>{["box", "disc"][i % 2]}</name><difficult>0</difficult><bndbox>
        <xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>35</ymax></bndbox></object>
        </annotation>""")


def test_voc_folder(root):
    voc(root)
    dataset = CocoDataset.from_folder(root)
    assert (dataset.class_names, dataset.category_ids) == (("box", "disc"), (1, 2))
    assert is_usual(dataset)
    refused("--val-share", find_coco, root, "val")


@pytest.mark.parametrize("here", ["", "train"])
def test_voc_beside_the_images(root, here):
    voc(root)
    (root/here).mkdir(exist_ok=True)
    for path in [*root.glob("*/*.xml"), *root.glob("*/*.jpg")]: path.rename(root/here/path.name)
    for name in ("JPEGImages", "Annotations"): (root/name).rmdir()
    assert is_usual(CocoDataset.from_folder(root))


def test_voc_lists(root):
    voc(root)
    lists = root/"ImageSets"/"Main"
    lists.mkdir(parents=True)
    (lists/"train.txt").write_text("1\n3\n")
    (lists/"val.txt").write_text("2\n")
    train = CocoDataset.from_folder(root)
    val = CocoDataset.from_folder(root, "val", train.category_ids, train.class_names)
    assert (len(train), len(val), train.labels.tolist(), val.labels.tolist()) == (2, 1, [1, 1], [0])
    assert [train.image_id(i) for i in range(2)] == ["1.jpg", "3.jpg"]


def test_voc_counts_pixels_from_one(root):
    voc(root, database="The VOC2007 Database")
    assert CocoDataset.from_folder(root)[0]["boxes"].tolist() == [[9, 4, 30, 35]]


def test_voc_with_entities_is_refused(root):
    voc(root)
    path = root/"Annotations"/"2.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + path.read_text().split("?>")[1])
    refused("2.xml has a DOCTYPE", CocoDataset.from_folder, root)
    path.write_text("<annotation>")
    refused("2.xml is not valid XML", CocoDataset.from_folder, root)


CORNERS = torch.tensor([[10., 5, 30, 35]])


def data_yaml(root, train="images/train", val="images/val", more="names: [disc, box]"):
    (root/"data.yaml").write_text(f"train: {train}\nval: {val}\n{more}\n")


def yolo(root, images="images/{}", labels="labels/{}", line="{} 0.3125 0.41666667 0.3125 0.625"):
    for split in ("train", "val"):
        for i in range(1, 4):
            picture(root/images.format(split)/f"{i}.jpg")
            path = root/labels.format(split)/f"{i}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(line.format(i % 2) + "\n")


@pytest.mark.parametrize("names", ["names: [disc, box]", "names:\n  0: disc\n  1: box",
                                   "nc: 2\nnames: ['disc', 'box']"])
def test_yolo_folder(root, names):
    yolo(root)
    data_yaml(root, more=f"path: ../datasets/x\n{names}")
    for split in ("train", "val"):
        dataset = CocoDataset.from_folder(root, split)
        assert (dataset.class_names, dataset.category_ids) == (("disc", "box"), (0, 1))
        torch.testing.assert_close(dataset.boxes, CORNERS.repeat(3, 1))
        assert dataset.labels.tolist() == [1, 0, 1]


def test_yolo_of_roboflow(root):
    yolo(root, "{}/images", "{}/labels")
    data_yaml(root, "../train/images", "../val/images")
    assert len(CocoDataset.from_folder(root, "val").boxes) == 3


def test_yolo_of_another_machine(root):
    yolo(root, "{}/images", "{}/labels")
    data_yaml(root, "/content/train/images", "/content/val/images")
    assert find_coco(root, "train") == (root/"train"/"images", root/"train"/"labels")


def test_yolo_lists(root):
    yolo(root)
    (root/"train.txt").write_text("./images/train/1.jpg\n./images/train/3.jpg\n")
    data_yaml(root, "train.txt")
    dataset = CocoDataset.from_folder(root)
    assert dataset.labels.tolist() == [1, 1] and dataset[1]["image_id"] == "images/train/3.jpg"


def test_yolo_outlines(root):
    yolo(root, line="{} 0.15625 0.104167 0.46875 0.104167 0.46875 0.729167 0.15625 0.729167")
    boxes = CocoDataset.from_folder(root).boxes[:1]
    torch.testing.assert_close(boxes, CORNERS, atol=1e-4, rtol=0)


def test_yolo_without_labels_is_an_image_without_boxes(root):
    yolo(root)
    (root/"labels"/"train"/"2.txt").unlink()
    assert CocoDataset.from_folder(root).starts.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("line, message", [
    ("{} 20 20 10 10", "object 1 of .*1.txt has the numbers .*expected fractions"),
    ("{} 0.5 0.5 0.1", "object 1 of .*expected a class and x, y, width, height"),
    ("7 0.5 0.5 0.1 0.1", "objects of the class 7, but only 0..1 have names"),
])
def test_yolo_sentences(root, line, message):
    yolo(root, line=line)
    data_yaml(root)
    refused(message, CocoDataset.from_folder, root)


def test_yolo_keypoints_are_not_outlines(root):
    yolo(root, line="{} 0.3125 0.41666667 0.3125 0.625 0.3 0.4 1 0.35 0.5 0")
    data_yaml(root, more="kpt_shape: [2, 3]\nnames: [disc, box]")
    torch.testing.assert_close(CocoDataset.from_folder(root).boxes, CORNERS.repeat(3, 1))


def test_yolo_images_on_their_side_are_labelled_as_seen(root):
    yolo(root)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(root/"images"/"train"/"1.jpg", format="JPEG", exif=exif)
    sample = CocoDataset.from_folder(root)[0]
    assert sample["image"].shape == (3, 48, 64)
    torch.testing.assert_close(sample["boxes"].as_subclass(torch.Tensor), CORNERS)


def test_an_unreadable_image_is_left_out_of_yolo(root):
    yolo(root)
    (root/"images"/"train"/"2.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 image cannot be read and was skipped; .* 2.jpg"):
        assert len(CocoDataset.from_folder(root)) == 2


# file names

@pytest.mark.parametrize("name, written", [
    ("{}.jpg", "{}.JPG"), ("{}.JPG", "{}.jpg"), ("{}.jpg", "./{}.jpg"),
    ("a b {}.jpg", "a%20b%20{}.jpg"),
    ("a%20b {}.jpg", "a b {}.jpg"), ("sub/{}.jpg", "sub\\{}.jpg"), ("{}.jpg", "C:\\images\\{}.jpg"),
    ("{}.jpg", "https://example.com/files/{}.jpg?size=2"),
    (unicodedata.normalize("NFC", "é{}.jpg"), unicodedata.normalize("NFD", "é{}.jpg")),
    (unicodedata.normalize("NFD", "é{}.jpg"), unicodedata.normalize("NFC", "é{}.jpg")),
])
def test_names_in_other_spellings(root, name, written):
    assert is_usual(usual(root, name=name, written=written))


def test_names_that_two_files_match_are_refused_with_both(root):
    for name in ("a/1.jpg", "b/1.jpg"): picture(root/"train"/name)
    refused("1.jpg is not there .similar names: a/1.jpg, b/1.jpg", usual, root, n=1,
            name="c/{}.png", written="1.jpg")


def test_another_split_is_not_taken_for_this_one(root):
    refused("3 of 3 images .*val/1.jpg is not there", usual, root, written="val/{}.jpg")


def test_two_names_do_not_share_a_file(root):
    def edit(document):
        document["images"][1]["file_name"] = "1.JPG"
    refused("1.JPG is not there", usual, root, edit=edit)


def test_links_that_lead_back_do_not_hang(root):
    files = coco(root/"train", root/"train.json", name="sub/{}.jpg")
    for k in range(12): os.symlink(root, root/"train"/f"up{k}")
    os.symlink(".", root/"train"/"same")
    os.symlink("sub", root/"train"/"also")
    assert is_usual(CocoDataset(*files))
    files = coco(root/"train", root/"train.json", name="sub/{}.jpg", written="also/{}.jpg")
    assert is_usual(CocoDataset(*files))


def test_deep_images_are_read_on_one_scale(root):
    files = coco(root/"train", root/"train.json", name="{}.png")
    for i in range(1, 4):
        pixels = np.full((48, 64), 1000*i, np.uint16)
        Image.fromarray(pixels).save(root/"train"/f"{i}.png")
    with pytest.warns(UserWarning, match="16-bit"): dataset = CocoDataset(*files)
    white = [sample["image"].float().mean().item() for sample in dataset]
    assert dataset.levels == 4095
    assert white == pytest.approx([1000*i*255/4095 for i in (1, 2, 3)], abs=0.6)
