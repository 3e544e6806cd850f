"""Pictures of graphs: nothing covers anything else, everything is there, and nothing a user wrote is markup."""

import itertools
import re
import time
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import elbax
from elbax.errors import ConfigError
from elbax.graph.drawing.diagram import Diagram, Edge, Shape, credited, diagram
from elbax.graph.drawing.layers import layers
from elbax.graph.drawing.layout import layout
from elbax.graph.drawing.mermaid import mermaid
from elbax.graph.drawing.order import crossings, ordered
from elbax.graph.drawing.positions import distance, positions
from elbax.graph.drawing.svg import drawn, svg
from elbax.graph.drawing.words import escape, shortened, text_width
from elbax.graph.graph import Relation
from tests.oracles.programs import FINITE, THETA

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = ["<script>alert(1)</script>", "\"'><x onload=y>", "a\x00\x07\n\u202eb]]>", "&amp; #quot; `--> n0", "ζ_温度🎲"]


def graph_of(program):
    return elbax.trace(program, jnp.asarray(THETA, jnp.float32))


@st.composite
def diagrams(draw, most=14):
    """Diagrams as graphs give them: parameters before their nodes, costs last, loops and credit upwards."""
    n = draw(st.integers(1, most))
    names = st.text(min_size=1, max_size=30) | st.sampled_from(HOSTILE)
    shapes, edges, ends = [], [], []
    for i in range(n):
        parents = draw(st.lists(st.sampled_from(ends), unique=True, max_size=4)) if ends else []
        kind = draw(st.sampled_from(["input", "sample", "cost"]))
        entry = len(shapes)
        if kind == "sample" and parents:
            shapes.append(Shape(f"{i}", "deterministic", ("loc, scale",)))
            edges.append(Edge(entry, entry + 1, "dependence"))
            if draw(st.booleans()):
                edges.append(Edge(entry + 1, entry, "loop"))
        edges += [Edge(p, entry, "dependence") for p in parents]
        credit = [p for p in parents if kind == "cost" and shapes[p].kind == "sample"]
        labels = st.sampled_from(["", "<=", "mixed", "(=, mixed, [-1, +2])"])
        edges += [Edge(entry, p, "credit", draw(labels)) for p in credit]
        if kind != "cost":
            ends.append(len(shapes))
        shapes.append(Shape(f"{i}", kind, (draw(names), "Bernoulli", "[5 steps, 10]")[: draw(st.integers(1, 3))]))
    return Diagram("a title", tuple(shapes), tuple(edges))


def overlap(a, b):
    return abs(a.x - b.x) < (a.width + b.width) / 2 and abs(a.y - b.y) < (a.height + b.height) / 2


def inside(point, box, kind):
    u, v = (point[0] - box.x) / (box.width / 2), (point[1] - box.y) / (box.height / 2)
    return u * u + v * v < 0.99 if kind == "sample" else max(abs(u), abs(v)) < 0.99


def check(picture):
    """What every picture has to satisfy."""
    place = layout(picture)
    assert len(place.boxes) == len(picture.shapes)
    assert set(place.labels) == {e for e in picture.edges if e.label}
    boxes = [*place.boxes, *place.labels.values()]
    for a, b in itertools.combinations(boxes, 2):
        assert not overlap(a, b)
    for box in boxes:
        assert box.x - box.width / 2 + 1e-6 >= 0
        assert box.x + box.width / 2 <= place.width + 1e-6
        assert box.y - box.height / 2 + 1e-6 >= 0
        assert box.y + box.height / 2 <= place.height + 1e-6
    assert tuple(place.curves) == picture.edges
    for edge, curves in place.curves.items():
        check_curves(picture, place, edge, curves)
    return place


def check_curves(picture, place, edge, curves):
    """An arrow is connected, runs from border to border, and keeps clear of everything but its ends."""
    for a, b in itertools.pairwise(curves):
        assert a.end == pytest.approx(b.start, abs=0.3)
    for i, (x, y) in ((edge.tail, curves[0].start), (edge.head, curves[-1].end)):
        box = place.boxes[i]
        sides = abs(x - box.x) / box.width, abs(y - box.y) / box.height
        assert max(sides) == pytest.approx(0.5, abs=0.02)
    points = [curve.at(k / 16) for curve in curves for k in range(17)]
    for point in points:
        assert -0.1 <= point[0] <= place.width + 0.1
        for box, shape in zip(place.boxes, picture.shapes, strict=True):
            assert not inside(point, box, shape.kind), (edge, shape)
        for other, box in place.labels.items():
            assert other == edge or not inside(point, box, "label"), (edge, other)


@settings(max_examples=60, deadline=None)
@given(diagrams())
def test_random_diagrams(picture):
    check(picture)
    assert drawn(picture) == drawn(picture)
    ElementTree.fromstring(drawn(picture))


@pytest.mark.parametrize("program", FINITE, ids=lambda p: p.__name__)
def test_programs(program):
    graph = graph_of(program)
    picture = diagram(graph)
    check(picture)
    assert {s.name for s in picture.shapes if s.kind != "deterministic"} == set(graph.nodes)
    arrows = {(e.kind == "credit", picture.shapes[e.tail].name, picture.shapes[e.head].name) for e in picture.edges}
    assert arrows >= {(False, parent, node) for node in graph.nodes for parent in graph.deps(node)}
    assert arrows >= {(True, c, w) for w, c, _ in credited(graph)}
    root = ElementTree.fromstring(graph.draw())
    assert len(root.findall(f"./{SVG}g/{SVG}path")) == len(picture.edges)
    assert all(path.attrib["d"].startswith("M") for path in root.iter(f"{SVG}path"))


def many_sites(theta):
    total = 0.0
    for i in range(40):
        total += elbax.sample(f"b{i}", dist.Bernoulli(logits=theta[i % 3])) * (i + 1.0)
    return total**2


def long_chain(theta):
    z = 0.0
    for i in range(40):
        z = elbax.sample(f"z{i}", dist.Normal(z * theta[0], 1.0))
    return z * theta[1]


@pytest.mark.parametrize("program", [many_sites, long_chain])
def test_forty_sites(program):
    picture = diagram(graph_of(program))
    start = time.perf_counter()
    place = layout(picture)
    assert time.perf_counter() - start < 2.0  # takes a tenth of that on a slow machine
    check(picture)
    assert place.width < 1600
    # Parameters that all nodes use are one line that branches, not forty.
    assert len(layers(picture).items) < 4 * len(picture.shapes)


def test_order_and_positions():
    picture = diagram(graph_of(many_sites))
    plan = layers(picture)
    rows = ordered(plan)
    assert [sorted(row) for row in rows] == [sorted(row) for row in plan.rows]
    xs = positions(plan, rows)
    for row in rows:
        for a, b in itertools.pairwise(row):
            assert xs[b] - xs[a] >= distance(plan.items[a], plan.items[b]) - 0.2


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_crossings_are_counted(lines):
    pairs = itertools.combinations([(float(a), float(b)) for a, b in lines], 2)
    assert crossings([(float(a), float(b)) for a, b in lines]) == sum(
        (p[0] - q[0]) * (p[1] - q[1]) < 0 for p, q in pairs
    )


def test_an_order_without_crossings_is_found():
    shapes = tuple(Shape(str(i), "input" if i < 4 else "cost", (str(i),)) for i in range(8))
    edges = tuple(Edge(i, 7 - i, "dependence") for i in range(4))
    place = check(Diagram("", shapes, edges))
    assert all(place.boxes[i].x == pytest.approx(place.boxes[7 - i].x, abs=0.2) for i in range(4))


def test_a_long_arrow_is_straight():
    shapes = (*(Shape(str(i), "sample", (str(i),)) for i in range(7)), Shape("7", "cost", ("7",)))
    chain = tuple(Edge(i, i + 1, "dependence") for i in range(7))
    long = Edge(0, 7, "dependence")
    place = check(Diagram("", shapes, (*chain, long)))
    assert len({round(c.start[0]) for c in place.curves[long]}) <= 3


def test_nothing_to_draw():
    assert layout(Diagram("", (), ())).width == 0.0
    ElementTree.fromstring(drawn(Diagram("", (), ())))


# ------------------------------------------------------------------------------------------- text


def hostile(theta):
    a = elbax.sample(HOSTILE[0], dist.Normal(theta[0], 1.0))
    b = elbax.sample(HOSTILE[1] + "long" * 20, dist.Bernoulli(logits=a))
    elbax.cost(HOSTILE[2], a * b)
    elbax.cost(HOSTILE[3], a)
    elbax.cost(HOSTILE[4], b * 1.0)


def test_text_is_escaped():
    graph = graph_of(hostile)
    text = graph.draw()
    root = ElementTree.fromstring(text)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= set(
        "svg title style defs marker path rect ellipse g text".split()
    )
    titles = [e.text for e in root.iter(f"{SVG}title")]
    assert any(t and HOSTILE[0] in t for t in titles)
    assert not re.search("script>|@import|url\\((?!#)|href", text.replace("&lt;script&gt;", ""))


@given(st.text(max_size=60))
def test_words(words):
    ElementTree.fromstring(f'<a b="{escape(words)}">{escape(words)}</a>')
    short = shortened(words, 13.0, 100.0)
    assert text_width(short, 13.0) <= 100.0
    assert len(words) == len(short) or len(short) < len(words)


def test_the_middle_of_a_long_name_is_left_out():
    assert shortened("abc", 13.0, 100.0) == "abc"
    assert re.fullmatch("encod.*….*er_7", shortened("encoder/" * 20 + "layer_7", 13.0, 100.0))


@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=4))
def test_text_stays_inside_its_shape(lines):
    for kind in ("input", "sample", "deterministic", "cost"):
        shape = Shape("x", kind, tuple(lines))
        width, height = shape.size
        for i, line in enumerate(shape.fitted):
            half = text_width(line, 11.0 if i else 13.0) / 2
            low = max(abs(16.0 * k - 8.0 * len(lines)) for k in (i, i + 1))
            if kind == "sample":
                assert (half / (width / 2)) ** 2 + (low / (height / 2)) ** 2 <= 1.0
            else:
                assert half + 6.0 <= width / 2
                assert low < height / 2


def test_the_legend_shows_what_occurs():
    words = "".join(t.text or "" for t in ElementTree.fromstring(graph_of(FINITE[0]).draw()).iter(f"{SVG}text"))
    assert "is credited to" in words
    assert "next loop step" not in words
    bare = svg(graph_of(FINITE[0]), caption=False)
    assert "is credited to<" not in bare
    assert "Stochastic computation graph of single</text>" not in bare


# ------------------------------------------------------------------------------------------- other forms


@pytest.mark.parametrize("program", [*FINITE, hostile], ids=lambda p: p.__name__)
def test_mermaid_is_well_formed(program):
    graph = graph_of(program)
    first, *lines = mermaid(graph).splitlines()
    words = r'"[^"\n<>&;]*((<br/>|#\d+;)[^"\n<>&;]*)*"'
    node = rf"    n\d+(\(\[{words}\]\)|\(\({words}\)\)|\[{words}\]|\[\[{words}\]\])(:::\w+)?"
    arrow = rf"    n\d+ (-->|-\.->|-\. {words} \.->) n\d+"
    kinds = [next((k for k, p in enumerate((node, arrow, "    classDef .*")) if re.fullmatch(p, x)), 3) for x in lines]
    assert first == "flowchart TD"
    assert 3 not in kinds, lines[kinds.index(3)]
    picture = diagram(graph)
    assert (kinds.count(0), kinds.count(1)) == (len(picture.shapes), len(picture.edges))


def test_files(tmp_path):
    graph = graph_of(FINITE[0])
    for suffix, start in ((".svg", "<svg"), (".mmd", "flowchart"), (".md", "```mermaid\n"), (".txt", "stochastic")):
        path = tmp_path / f"g{suffix}"
        assert graph.draw(path) == path.read_text(encoding="utf-8")
        assert path.read_text(encoding="utf-8").startswith(start)
        with pytest.raises(ConfigError, match="overwrite=True"):
            graph.draw(path)
        graph.draw(path, overwrite=True)
    with pytest.raises(ConfigError, match="'g.png': use a name that ends in .svg, .mmd, .md, .txt"):
        graph.draw(tmp_path / "g.png")
    assert graph._repr_svg_() == graph.draw()
    assert graph.mermaid() == mermaid(graph)


def test_relations_of_one_axis_have_no_parentheses():
    assert [str(Relation(a)) for a in ((), ("<=",), ("=", "mixed"))] == ["", "<=", "(=, mixed)"]


def test_nodes_without_score_function_are_not_credited():
    def program(theta):
        noise = elbax.sample("noise", dist.Normal(jnp.zeros(2), 1.0))
        z = elbax.sample("z", dist.Normal(theta[0], 1.0))
        return (noise.sum() + z) ** 2

    assert credited(graph_of(program)) == []
    assert len(credited(graph_of(jax.jit(FINITE[0])))) == 1
