from brcd_lightning.data.features.layout import first_rows, parts_of


def names(amounts):
    return [part.name for part in parts_of(10, 5, amounts)]


def test_parts_double():
    assert names({"views": 9}) == ["evaluation", "views_0_1", "views_1_2", "views_2_4", "views_4_8", "views_8_16"]
    assert names({}) == ["evaluation"]
    assert [part.rows for part in parts_of(10, 5, {"views": 32})] == [1, 1, 1, 2, 4, 8, 16]


def test_kinds_follow_each_other_in_one_order():
    amounts = {"positives": 1, "rotations": 3, "views": 2}
    assert names(amounts) == [
        "evaluation",
        "views_0_1",
        "views_1_2",
        "rotations_0_1",
        "rotations_1_2",
        "rotations_2_4",
        "positives_0_1",
    ]


def test_rows_of_a_kind_start_behind_all_rows_of_the_parts_before():
    amounts = {"views": 3, "rotations": 3, "positives": 1}
    # 10 images; views 0..3 (the last part holds two), rotations 0..3, of 5 training images each.
    assert first_rows(10, 5, amounts) == {"views": 10, "rotations": 10 + 4 * 5, "positives": 10 + 8 * 5}
    assert first_rows(10, 5, {}) == {}
