"""Paths that are sent to other people."""

from __future__ import annotations

import pytest

from dermask.wording import plain_path, short_path, short_word


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("", ""),
        ("/", "/"),
        ("/a", "a"),
        ("/home/ann/runs/first", "runs/first"),
        ("runs/of/mine/first", "runs/of/mine/first"),
        ("../runs/first", "../runs/first"),
        (r"C:\Users\ann\runs\first", "runs/first"),
        ("https://example.org/a/b/c", "https://example.org/a/b/c"),
    ],
)
def test_an_absolute_path_keeps_its_last_parts(path: str, shown: str) -> None:
    assert short_path(path) == shown


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("--data=/home/ann/labels.json", "--data=ann/labels.json"),
        ("train.weights=/home/ann/a.safetensors", "train.weights=ann/a.safetensors"),
        ("/home/ann/x=1/labels.json", "x=1/labels.json"),
        ("--seed=1", "--seed=1"),
        ("evaluate", "evaluate"),
    ],
)
def test_a_word_of_a_command_too(word: str, shown: str) -> None:
    assert short_word(word) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("", ""),
        ("/", "/"),
        ("isic2017", "isic2017"),
        ("runs/first", "runs/first"),
        ("/home/me/isic2017/", "isic2017"),
        ("../shared/isic2017", "isic2017"),
        ("data/../../x", "x"),
        ("C:\\Users\\me\\isic2017", "isic2017"),
    ],
)
def test_a_path_is_shown_without_the_machine_it_is_on(path: str, shown: str) -> None:
    assert plain_path(path) == shown
