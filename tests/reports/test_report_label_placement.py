from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgekit.reports.label_placement import CHARACTER, HEIGHT, Anchor, Box, place

PLOT = Box(left=0, top=0, right=690, bottom=340)
anchors = st.lists(
    st.builds(
        Anchor,
        x=st.floats(0, 690),
        y=st.floats(0, 340),
        radius=st.floats(3, 12),
        text=st.text("abcdef", min_size=1, max_size=24),
        must=st.booleans(),
    ),
    max_size=40,
)


def room(anchor, spot):
    width = CHARACTER * len(anchor.text)
    left = anchor.x + spot.dx - {"left": 0, "right": width, "center": width / 2}[spot.align]
    top = anchor.y + spot.dy - HEIGHT / 2
    return Box(left=left, top=top, right=left + width, bottom=top + HEIGHT)


@given(anchors)
def test_labels_cover_neither_circles_nor_each_other(points):
    boxes = [
        room(anchor, spot)
        for anchor, spot in zip(points, place(points, [], PLOT), strict=True)
        if spot
    ]
    # A hair less on every side: the boxes here are computed anew, in another order.
    boxes = [
        Box(left=b.left + 0.01, top=b.top + 0.01, right=b.right - 0.01, bottom=b.bottom - 0.01)
        for b in boxes
    ]
    for position, box in enumerate(boxes):
        assert box.within(PLOT)
        assert not any(box.meets(other) for other in boxes[:position])
        for anchor in points:
            circle = Box(
                left=anchor.x - anchor.radius,
                top=anchor.y - anchor.radius,
                right=anchor.x + anchor.radius,
                bottom=anchor.y + anchor.radius,
            )
            assert not box.meets(circle)


def test_a_lone_point_is_named_on_its_right():
    (spot,) = place([Anchor(x=100, y=100, radius=5, text="int8", must=False)], [], PLOT)
    assert (spot.align, spot.dy) == ("left", 0)
    assert spot.dx > 5


def test_lines_push_a_label_aside_and_only_what_must_be_shown_crosses_them():
    everywhere = [Box(left=0, top=0, right=690, bottom=340)]
    level = [Box(left=0, top=98, right=690, bottom=102)]
    point = Anchor(x=100, y=100, radius=5, text="int8", must=False)
    chosen = Anchor(x=100, y=100, radius=5, text="int8", must=True)
    assert place([point], level, PLOT)[0].dy < 0
    assert place([point], everywhere, PLOT) == [None]
    assert place([chosen], everywhere, PLOT) != [None]
