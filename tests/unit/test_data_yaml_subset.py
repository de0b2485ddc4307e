import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermask.data.yaml_subset import MAX_BYTES, parse_yaml, read_yaml
from dermask.errors import LabelError


def message_of(text):
    try:
        parse_yaml(text, "data.yaml")
    except LabelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", {}),
        ("# nothing\n\n", {}),
        ("a: b", {"a": "b"}),
        ("\ufeff".join(["", "a: b"])[1:], {"a": "b"}),
        ("---\na: 1.0 # one\n...\n", {"a": "1.0"}),
        ("a: 'it''s # no comment'\r\nb: \"\\u00e9\\n\"", {"a": "it's # no comment", "b": "é\n"}),
        ("url: https://a.b/c#d\npath: C:\\data", {"url": "https://a.b/c#d", "path": "C:\\data"}),
        ("names: []\nmore: {}", {"names": [], "more": {}}),
        ("names: ['a', \"b, c\", d e,]", {"names": ["a", "b, c", "d e"]}),
        ("names: [a,\n  b, # two\n  c]\nx: y", {"names": ["a", "b", "c"], "x": "y"}),
        ("names: {0: a, 1: 'b: c'}", {"names": {"0": "a", "1": "b: c"}}),
        ("names:\n- a\n- 'b'\nnc: 2", {"names": ["a", "b"], "nc": "2"}),
        ("names:\n    0: a\n    1: b\nnc: 2", {"names": {"0": "a", "1": "b"}, "nc": "2"}),
        ("test:\nnone: ~\n", {"test": "", "none": ""}),
        ("download: |\n  import os\n\n  a: b\ntrain: x", {"download": "import os\n\na: b", "train": "x"}),
    ],
)
def test_what_data_files_use_is_read(text, tree):
    assert parse_yaml(text, "data.yaml") == tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", r"^data\.yaml: line 1: 'a' is not 'key: value'"),
        ("a: b\na: c", r"^data\.yaml: line 2: key 'a' appears twice"),
        ("a:\n  b: c\n  b: d", r"^data\.yaml: line 3: key 'b' appears twice"),
        ("a: {b: c, b: d}", r"^data\.yaml: line 1: key 'b' appears twice"),
        (" a: b", r"^data\.yaml: line 1: ' a: b' is indented below nothing"),
        ("a:\n\tb: c", r"^data\.yaml: line 2: a tab indents the line"),
        ("a: &x b", r"^data\.yaml: line 1: '&x b' uses YAML that dermask does not read"),
        ("a: *x", r"uses YAML that dermask does not read"),
        ("a: !!python/object:os.system b", r"uses YAML that dermask does not read"),
        ("a:\n  b:\n    c: d", r"^data\.yaml: line 3: is indented unlike the line above"),
        ("a:\n  - b: c", r"^data\.yaml: line 2: 'b: c' is nested more deeply"),
        ("a:\n  b: [c]", r"^data\.yaml: line 2: '\[c\]' is nested more deeply"),
        ("a: [b, [c]]", r"'\[c\]' is nested or quoted"),
        ("a: [b", r"^data\.yaml: line 1: '\[b' is not closed"),
        ("a: [b\nc: d", r"'\[b' is not closed"),
        ("a: 'b", r'"\'b" has a stray quote'),
        ('a: "\\x41"', r"has a stray quote or an escape"),
        ("- a", r"^data\.yaml: line 1: '- a' is not 'key: value'"),
        ("a: b\n---\nc: d", r"^data\.yaml: line 2: '---' is not 'key: value'"),
    ],
)
def test_more_of_yaml_is_refused_with_its_line(text, message):
    with pytest.raises(LabelError, match=message):
        parse_yaml(text, "data.yaml")


def test_files_that_are_no_small_text_are_refused(tmp_path):
    path = tmp_path / "data.yaml"
    with pytest.raises(LabelError, match=r"data\.yaml: no such file"):
        read_yaml(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(LabelError, match=r"data\.yaml: cannot be read as text"):
        read_yaml(path)
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(LabelError, match=r"data\.yaml: has 200,001 bytes, too many"):
        read_yaml(path)


@given(st.text(alphabet="ab:'\"-[]{},#|>&* \t\n0~\\", max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text):
    assert "\n" not in message_of(text)


@pytest.mark.parametrize(
    "line", ["a:" + " " * 100_000, "a: [" + "b," * 50_000 + "]", " " * 100_000 + ":", "a" * 150_000]
)
def test_long_lines_take_no_long_time(line):
    assert len(message_of(line)) < 300
