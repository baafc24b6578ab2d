"""Recipes are read whole or refused with the place, the fault and the closest match."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import UsageError
from edgekit.modes import MODES
from edgekit.pipeline import read_recipe
from edgekit.recipe import (
    RANGES,
    Prune,
    Qat,
    Quantize,
    Shrink,
    Training,
    default_plan,
    load_recipe,
    parse_recipe,
    pass_json,
    pass_step,
    plan_from_json,
    plan_json,
    reference,
)
from edgekit.records import Plan, Rule

FULL = """
schema = 1
name = "int8-careful"
[[step]]
kind = "quantize"
mode = "int8"
ranges = "percentile"
percentile = 99.9
input = "uint8"
output = "float32"
rules = [{ layers = "^logits$", mode = "float32" }]
"""


def test_a_full_recipe_becomes_its_plan(tmp_path):
    path = tmp_path / "anything.toml"
    path.write_text(FULL)

    recipe = load_recipe(path)

    assert recipe.name == "int8-careful"
    assert recipe.plan == Plan(
        variant="int8-careful",
        mode="int8",
        ranges="percentile",
        percentile=99.9,
        input_type="uint8",
        output_type="float32",
        rules=(Rule(layers="^logits$", mode="float32"),),
    )


def test_what_is_left_out_is_what_the_bare_mode_means():
    text = 'schema = 1\n[[step]]\nkind = "quantize"\nmode = "int16x8"\n'

    recipe = parse_recipe(text, "int16x8.toml")

    assert recipe.name == "int16x8"
    assert recipe.plan == default_plan("int16x8")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('ranges = "percentile"', 'rangs = "percentile"', ["step 1", "'rangs'", "'ranges'"]),
        ('name = "int8-careful"', 'nmae = "x"', ["'nmae'", "'name'"]),
        ('name = "int8-careful"', 'name = "../x"', ["name", "'../x'"]),
        ("layers", "layer", ["rule 1", "'layer'", "'layers'"]),
        ('mode = "int8"', 'mode = "in8"', ["'in8'", "'int8'"]),
        ('mode = "int8"', "mode = 8", ["mode = 8", "int16x8"]),
        ('mode = "int8"', "", ["'mode' is missing", "int16x8"]),
        ('mode = "int8"', 'mode = "float16"', ["input", "float32"]),
        ('input = "uint8"', 'input = "int16"', ["input", "'int16'", "uint8"]),
        ('ranges = "percentile"', 'ranges = "mse"', ["percentile"]),
        ("percentile = 99.9", "percentile = 101", ["101", "at most 100"]),
        ("percentile = 99.9", "percentile = true", ["True"]),
        ('"^logits$"', '"(("', ["rule 1", "regular expression"]),
        ('kind = "quantize"', 'kind = "prune"', ["does not end in a quantize step", "prune"]),
        ('kind = "quantize"', 'kind = "quantise"', ["'quantise'", "'quantize'"]),
        ('kind = "quantize"', "", ["step 1", "'kind' is missing"]),
        ("schema = 1", "schema = 2", ["schema = 2", "1"]),
        ("schema = 1", "", ["'schema' is missing"]),
        ("schema = 1", "schema = ", ["not TOML", "line 2"]),
        ("[[step]]", "[step]", ["step"]),
    ],
)
def test_what_means_nothing_is_refused(before, after, says):
    assert before in FULL

    with pytest.raises(UsageError) as refusal:
        parse_recipe(FULL.replace(before, after, 1), "r.toml")

    text = str(refusal.value)
    assert "r.toml" in text
    assert len(text.splitlines()) <= 3
    for word in says:
        assert word in text


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ('kind = "adapt"\ntarget = "corral"', ["target", "'corral'", "'coral'"]),
        ('kind = "adapt"\ntarget = "esp32-s3:rom=3"', ["esp32-s3", "'rom'"]),
        ('kind = "prune"\npattern = "2:4"\nsparsity = 0.7', ["sparsity 0.5", "0.7"]),
        ('kind = "prune"\nexclude = ["(("]', ["exclude = '(('", "regular expression"]),
        (
            'kind = "adapt"\ntarget = "coral"\nsplit_by = "time"\n[[step]]\nkind = "prune"',
            ["split_by", "time"],
        ),
    ],
)
def test_what_a_step_refuses_by_itself_names_the_file(step, says):
    text = f'schema = 1\n[[step]]\n{step}\n[[step]]\nkind = "quantize"\nmode = "int8"\n'

    with pytest.raises(UsageError) as refusal:
        parse_recipe(text, "r.toml")

    told = str(refusal.value)
    assert told.startswith("r.toml: " if "split_by" in step else "r.toml, step 1: ")
    assert all(word in told for word in says)


@pytest.mark.parametrize(
    ("passes", "says"),
    [
        (["equalise"], ["unknown graph pass", "equalize"]),
        (["round_weights", "equalize"], ["Put equalize before round_weights"]),
    ],
)
def test_graph_passes_of_a_recipe_are_looked_at_when_it_is_read(tmp_path, passes, says):
    path = tmp_path / "r.toml"
    path.write_text(f'schema = 1\n[[step]]\nkind = "quantize"\nmode = "int8"\npasses = {passes}\n')

    with pytest.raises(UsageError) as refusal:
        read_recipe(path)

    told = str(refusal.value)
    assert told.startswith("r.toml, step 1, passes: ")
    assert all(word in told for word in says)


def test_a_step_stands_once():
    step = '[[step]]\nkind = "quantize"\nmode = "int8"\n'

    with pytest.raises(UsageError, match=r"step 2: quantize repeats"):
        parse_recipe("schema = 1\n" + step + step, "r.toml")
    with pytest.raises(UsageError, match="no step"):
        parse_recipe("schema = 1\nstep = []\n", "r.toml")


def test_ranges_belong_to_the_modes_that_calibrate():
    text = 'schema = 1\n[[step]]\nkind = "quantize"\nmode = "dynamic"\nranges = "mse"\n'

    with pytest.raises(UsageError, match="'ranges' has no effect"):
        parse_recipe(text, "r.toml")


def test_a_recipe_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_recipe(tmp_path / "missing.toml")
    with pytest.raises(UsageError, match="is a folder"):
        load_recipe(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        load_recipe(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("mode", "io", "ranges", "variant", "io_type"),
    [
        ("int8", None, "auto", "int8", "int8"),
        ("int8", "int8", "auto", "int8", "int8"),
        ("int8", "float32", "auto", "int8-float32io", "float32"),
        ("int8", "uint8", "auto", "int8-uint8io", "uint8"),
        ("int8", None, "minmax", "int8-minmax", "int8"),
        ("int8", None, "mse", "int8-mse", "int8"),
        ("int8", "uint8", "entropy", "int8-uint8io-entropy", "uint8"),
        ("int16x8", None, "auto", "int16x8", "float32"),
        ("int16x8", "int16", "auto", "int16x8-int16io", "int16"),
        ("int16x8", "uint8", "auto", "int16x8", "float32"),
        ("float16", "uint8", "mse", "float16", "float32"),
    ],
)
def test_default_plans_are_named_after_what_differs(mode, io, ranges, variant, io_type):
    plan = default_plan(mode, io=io, ranges=ranges)

    assert (plan.variant, plan.input_type, plan.output_type) == (variant, io_type, io_type)


def test_edgekit_chooses_wherever_integers_are_stored():
    chosen = {mode: default_plan(mode, ranges="mse").ranges for mode in MODES}
    assert chosen == {
        **dict.fromkeys(("float32", "float16"), "minmax"),
        **dict.fromkeys(("dynamic", "int4"), "auto"),
        **dict.fromkeys(("int8", "int16x8"), "mse"),
    }
    assert {default_plan(mode).ranges for mode in MODES} == {"minmax", "auto"}
    assert {Quantize(mode=mode).plan("v").ranges for mode in MODES} == {"minmax", "auto"}


@pytest.mark.parametrize(
    "options", [{"mode": "int9"}, {"mode": "int8", "io": "int99"}, {"mode": "int8", "ranges": "x"}]
)
def test_default_plans_refuse_unknown_words(options):
    with pytest.raises(UsageError, match="Unknown"):
        default_plan(**options)


plans = st.sampled_from(list(MODES)).flatmap(
    lambda mode: st.builds(
        Plan,
        variant=st.text(min_size=1),
        mode=st.just(mode),
        ranges=st.sampled_from(RANGES),
        percentile=st.floats(50.5, 100),
        input_type=st.sampled_from(MODES[mode].io_types),
        output_type=st.sampled_from(MODES[mode].io_types),
        rules=st.lists(
            st.builds(Rule, layers=st.text(), mode=st.sampled_from(list(MODES))), max_size=3
        ).map(tuple),
    )
)


@settings(deadline=None)
@given(plans)
def test_a_plan_survives_the_manifest(plan):
    import json

    assert plan_from_json(json.loads(json.dumps(plan_json(plan)))) == plan


def test_an_edited_plan_is_refused():
    value = plan_json(default_plan("int8"))

    with pytest.raises(UsageError, match="cannot be read"):
        plan_from_json(value | {"colour": "red"})
    del value["rules"]
    with pytest.raises(UsageError, match="cannot be read"):
        plan_from_json(value)


def test_the_reference_names_every_key_and_mode():
    text = reference()

    for word in ("schema", "name", "step", "kind", "percentile", "rules", "layers", *MODES):
        assert f"`{word}`" in text


STAGES = """
schema = 1
[[step]]
kind = "shrink"
share = 0.4
epochs = 2
distill = true
[[step]]
kind = "qat"
bits = 4
[[step]]
kind = "quantize"
mode = "int8"
"""


def test_the_stages_before_the_last_are_read_with_their_options():
    recipe = parse_recipe(STAGES, "small.toml")

    assert [step.kind for step in recipe.passes] == ["shrink", "qat"]
    assert recipe.passes == (
        Shrink(share=0.4, training=Training(epochs=2, distill=True)),
        Qat(bits=4),
    )
    assert (recipe.name, recipe.plan.mode) == ("small", "int8")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('kind = "shrink"', 'kind = "prune"', ["share", "sparsity"]),
        ("share = 0.4", "share = 1.4", ["share = 1.4", "below 1"]),
        ("bits = 4", "bits = 5", ["bits = 5", "8, 4"]),
        ('kind = "qat"\nbits = 4', 'kind = "shrink"', ["step 2", "repeats"]),
        ('mode = "int8"', 'mode = "float16"', ["qat", "float16", "int8"]),
        ("epochs = 2", "epoch = 2", ["'epoch'", "'epochs'"]),
    ],
)
def test_a_stage_that_means_nothing_is_refused(before, after, says):
    assert before in STAGES

    with pytest.raises(UsageError) as refusal:
        parse_recipe(STAGES.replace(before, after, 1), "r.toml")

    assert len(str(refusal.value).splitlines()) <= 3
    for word in says:
        assert word in str(refusal.value)


def test_all_stages_validate_on_the_same_samples():
    # given a qat that would validate on samples that the shrink before it was trained on
    first, second = STAGES.split('kind = "qat"\n')
    one = first + 'kind = "qat"\nsplit_by = "group"\n' + second
    both = one.replace('kind = "shrink"\n', 'kind = "shrink"\nsplit_by = "group"\n')

    with pytest.raises(UsageError, match="the same split_by"):
        parse_recipe(one, "r.toml")

    steps = parse_recipe(both, "r.toml").passes
    assert [step.training.split_by for step in steps] == ["group", "group"]


def test_stages_out_of_order_are_refused_with_the_right_order():
    first, second, third = STAGES.split("[[step]]")[1:]
    text = f"schema = 1\n[[step]]{second}[[step]]{first}[[step]]{third}"

    with pytest.raises(UsageError, match="shrink, qat, quantize"):
        parse_recipe(text, "r.toml")


@pytest.mark.parametrize(
    ("step", "share", "rate"),
    [
        (Prune(), 0.5, 1e-3),
        (Prune(pattern="2:4"), 0.5, 1e-3),
        (Prune(pattern="1:4"), 0.75, 1e-3),
        (Prune(pattern="block 1x4", sparsity=0.6), 0.6, 1e-3),
        (Prune(training=Training(learning_rate=0.1)), 0.5, 0.1),
    ],
)
def test_what_a_step_leaves_open_follows_from_its_other_fields(step, share, rate):
    assert (step.share, step.learning_rate) == (share, rate)


def test_qat_trains_more_slowly_the_more_bits_it_has():
    assert (Qat().learning_rate, Qat(bits=4).learning_rate) == (2e-5, 2e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sparsity": 1.0},
        {"sparsity": float("nan")},
        {"sparsity": True},
        {"pattern": "5:0"},
        {"pattern": "4:2"},
        {"pattern": "block 0x4"},
        {"scope": "everywhere"},
        {"training": {"learning_rate": float("inf")}},
        {"training": {"epochs": -1}},
        {"training": {"epochs": 1.5}},
    ],
)
def test_a_step_built_in_python_is_checked_as_one_in_a_file(wrong):
    with pytest.raises(UsageError, match="invalid value for"):
        Prune(**{**wrong, "training": Training(**wrong.pop("training", {}))})


def test_a_pass_in_a_manifest_is_what_a_recipe_would_say():
    step = Shrink(share=0.4, exclude=("a", "b"), training=Training(epochs=2))

    written = pass_json(step)

    assert written == {"kind": "shrink", "share": 0.4, "exclude": ["a", "b"], "epochs": 2}
    assert pass_step(written, "manifest") == step


TUNED = """
schema = 1
[[step]]
kind = "prune"
sparsity = 0.5
pattern = "2:4"
learning_rate = 0.01
epochs = 3
seed = 1
[[step]]
kind = "quantize"
mode = "int8"
ranges = "percentile"
percentile = 99.9
"""


@pytest.mark.parametrize(
    "value", ["nan", "-nan", "inf", "-inf", "-0.0", "1" + "0" * 400, "true", "'1'"]
)
@pytest.mark.parametrize("key", ["learning_rate", "epochs", "seed", "percentile", "sparsity"])
def test_no_number_of_a_recipe_is_anything_else(key, value):
    if (key, value) == ("sparsity", "-0.0"):
        value = "-0.1"
    line = next(line for line in TUNED.splitlines() if line.startswith(f"{key} "))

    with pytest.raises(UsageError) as no:
        parse_recipe(TUNED.replace(line, f"{key} = {value}"), "r.toml")

    text = str(no.value)
    assert key in text
    assert len(text.splitlines()) <= 3
    assert len(text) < 400


@pytest.mark.parametrize("pattern", ["5:0", "0:4", "4:2", "4:4", "block 0x4", "2x4", "99999:1", ""])
def test_patterns_that_mean_nothing(pattern):
    with pytest.raises(UsageError, match="pattern"):
        parse_recipe(TUNED.replace("2:4", pattern), "r.toml")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 50_000,
        ".".join("a" * 5000) + " = 1",
        "schema = " + "9" * 5000,
        "schema = 1\n" + "k" * 5000 + " = 1",
        'schema = 1\nname = "' + "n" * 300 + '"',
        "schema = 1\n[[step]]\nkind = {a = 1}",
        'schema = 1\n[[step]]\nkind = "quantize"\nmode = "int8"\n'
        'rules = [{ layers = "' + "(" * 5000 + ")" * 5000 + '", mode = "float32" }]',
    ],
    ids=["nested", "dotted", "digits", "long key", "long name", "kind", "nested expression"],
)
def test_recipes_beyond_reason_are_refused_in_words_that_can_be_read(text, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(text)

    with pytest.raises(UsageError) as no:
        load_recipe(path)

    said = str(no.value)
    assert len(said.splitlines()) <= 3
    assert len(said) < 600


def test_a_recipe_under_a_name_too_long(tmp_path):
    with pytest.raises(UsageError, match="too long"):
        load_recipe(tmp_path / ("r" * 300))


def test_a_pattern_that_implies_another_sparsity_is_refused():
    assert Prune(pattern="1:4", sparsity=0.75).share == 0.75
    with pytest.raises(UsageError, match=r"1:4 implies sparsity 0\.75, not 0\.5") as caught:
        Prune(pattern="1:4", sparsity=0.5)
    assert "Ask for 0.75" in str(caught.value)
