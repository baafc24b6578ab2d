"""Examples on the page: a sample as a picture, and what files say of it."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.printable import printable
from edgekit.records import TRUTH, Answer, Box, Example, Report
from edgekit.reports.example_pictures import ExamplePictures, class_colour
from edgekit.reports.page_text import escaped

MOST_CLASSES = 8
"""Classes of the key; further ones take the same colours again."""
SMALL = 64  # px: below, a picture is shown by its single pixels


def examples(report: Report, drawn: Sequence[ExamplePictures]) -> str:
    """Show the samples on which files are worst; nothing where their pictures are missing."""
    if not drawn or len(drawn) != len(report.examples):
        return ""
    files = [answer.name for answer in report.examples[0].answers if answer.name != TRUTH]
    judged = " and ".join(printable(name) for name in files[1:]) or printable(files[0])
    cards = "".join(
        _card(number, example, pictures)
        for number, (example, pictures) in enumerate(
            zip(report.examples, drawn, strict=True), start=1
        )
    )
    return (
        '<section class="examples"><h3>Test samples on which '
        f"{escaped(judged)} {'are' if len(files) > 2 else 'is'} worst</h3>"
        f'<p class="note">{_order(report.examples)} {_explained(report.examples)}</p>'
        f'{_key(report.examples)}<div class="cards">{cards}</div></section>'
    )


def _order(examples: Sequence[Example]) -> str:
    if any(example.worse for example in examples):
        return "First those that lost most against float32, then those furthest from the targets."
    return "None lost noticeably against float32; these are the furthest from the targets."


def _card(number: int, example: Example, pictures: ExamplePictures) -> str:
    title = f"Test sample {example.index:,}"
    head = f"<h4>{title}{': worse than float32' * example.worse}</h4>"
    if _in_words(example):
        answers = "".join(
            f"<dt>{escaped(printable(one.name))}</dt><dd>{_said(one)}</dd>"
            for one in example.answers
        )
        picture = _picture(number, pictures, title)
        return f'<div class="card words">{head}{picture}<dl>{answers}</dl></div>'
    views = [f'<div class="view">{_picture(number, pictures, title)}<p><b>sample</b></p></div>']
    for answer, mask in zip(example.answers, pictures.masks, strict=True):
        name = printable(answer.name)
        picture = _picture(
            number, pictures, f"{title}, {name}: {answer.text}", first=False,
            over=_mask(mask, pictures) + _boxes(answer.boxes, pictures),
        )  # fmt: skip
        views.append(
            f'<div class="view">{picture}<p><b>{escaped(name)}</b> {escaped(answer.text)}</p></div>'
        )
    return f'<div class="card wide">{head}<div class="views">{"".join(views)}</div></div>'


def _in_words(example: Example) -> bool:
    """Whether nothing is drawn into the picture."""
    return not any(answer.boxes or answer.mask is not None for answer in example.answers)


def _said(answer: Answer) -> str:
    text = escaped(printable(answer.text, 80))
    if answer.right is None:
        return text
    verdict = "kept" if answer.right else "lost"
    return f'<span class="verdict-{verdict}">{text}{"" if answer.right else " (wrong)"}</span>'


def _picture(
    number: int, pictures: ExamplePictures, alt: str, *, first: bool = True, over: str = ""
) -> str:
    """Return an SVG; the picture itself is in the page once, in the first one of a sample."""
    width, height = pictures.size
    name = f"sample-{number}"
    size = f'width="{width}" height="{height}"'
    picture = (
        f'<image id="{name}" href="{pictures.picture}" {size}/>'
        if first
        else f'<use href="#{name}"/>'
    )
    style = ' class="pixels"' if max(pictures.size) <= SMALL else ""
    return (
        f'<svg viewBox="0 0 {width} {height}"{style} role="img" aria-label="{escaped(alt)}">'
        f"{picture}{over}</svg>"
    )


def _mask(mask: str, pictures: ExamplePictures) -> str:
    if not mask:
        return ""
    width, height = pictures.size
    return (
        f'<image href="{mask}" width="{width}" height="{height}" preserveAspectRatio="none" '
        'class="pixels"/>'
    )


def _boxes(boxes: Sequence[Box], pictures: ExamplePictures) -> str:
    """Draw boxes, those without a counterpart dashed, each on a dark line that sets it off."""
    width, height = pictures.size
    text = ""
    for box in boxes:
        left, top, right, bottom = (min(1.0, max(0.0, corner)) for corner in box.corners)
        place = (
            f'x="{left * width:.1f}" y="{top * height:.1f}" '
            f'width="{max(0.0, right - left) * width:.1f}" '
            f'height="{max(0.0, bottom - top) * height:.1f}"'
        )
        score = "" if box.score is None else f" {box.score:.2f}"
        style = "" if box.matched else ' class="alone"'
        text += (
            f'<rect {place} class="halo"/><rect {place}{style} '
            f'stroke="{class_colour(box.number + 1)}">'
            f"<title>{escaped(printable(box.label))}{score}</title></rect>"
        )
    return f'<g class="boxes">{text}</g>' if text else ""


def _explained(examples: Sequence[Example]) -> str:
    answers = [answer for example in examples for answer in example.answers]
    if any(answer.boxes for answer in answers):
        return (
            "Boxes match from an overlap of 0.5; F1 is the mean over overlaps from 0.5 to 0.95. "
            "Dashed: missed by a file, or found where none is."
        )
    if any(answer.mask is not None for answer in answers):
        return "IoU is the mean over the classes of the picture."
    return ""


def _key(examples: Sequence[Example]) -> str:
    """Name the colours of the classes that are drawn."""
    found: dict[int, str] = {}
    for example in examples:
        names = example.classes
        for answer in example.answers:
            for box in answer.boxes:
                found[box.number + 1] = box.label
            for number in sorted(
                set(answer.mask.ravel().tolist()) if answer.mask is not None else ()
            ):
                known = 0 <= number < len(names)
                found[number] = "ignored" if number < 0 else names[number] if known else str(number)
    clear = found.pop(0, None)
    keys = "".join(
        f'<span class="key"><i class="swatch" style="background:{class_colour(number)}"></i>'
        f"{escaped(printable(found[number]))}</span>"
        for number in sorted(found)[:MOST_CLASSES]
    )
    if clear is not None:
        keys += f'<span class="key">clear: {escaped(printable(clear))}</span>'
    return f'<p class="note">{keys}</p>' if keys else ""
