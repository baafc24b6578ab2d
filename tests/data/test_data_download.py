"""Downloads of the built-in data sets, from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import wave
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.data import download, open_data
from edgekit.data.download import Part, fetch
from edgekit.data.formats import origins
from edgekit.data.formats.origins import Origin, place
from edgekit.errors import DataError

CONTENT = np.random.default_rng(0).bytes(300_000)
RIGHT = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What is served, how, and what was asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: list[str | None] = field(default_factory=list)
    break_at: list[int] = field(default_factory=list)
    resumes: bool = True
    status: int = 0


@pytest.fixture
def server():
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            content = state.files.get(self.path)
            if state.status or content is None:
                self.send_error(state.status or 404)
                return
            start = int(asked[6:-1]) if asked and state.resumes else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/*")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = state.break_at.pop(0) if state.break_at else len(content)
            self.wfile.write(content[start:end])  # the connection is closed behind it

        def log_message(self, *_):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{served.server_address[1]}"
    yield state
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("EDGEKIT_DATA", download.OFFLINE, "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "edgekit"


def part(server, *paths, sha256=RIGHT):
    urls = tuple(f"{server.address}/{path}" for path in paths or ("f",))
    return Part(name="f.bin", urls=urls, most_bytes=1 << 20, sha256=sha256)


def refusal(action):
    with pytest.raises(DataError) as caught:
        action()
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_a_download_goes_on_where_the_connection_broke_off(server, tmp_path):
    server.files["/f"], server.break_at = CONTENT, [100_000, 250_000]

    path = fetch(part(server), tmp_path / "d")

    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=250000-"]
    fetch(part(server), tmp_path / "d")
    assert len(server.ranges) == 3  # it is there: nobody is asked
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [".f.bin.lock", "f.bin"]


def test_a_later_command_goes_on_where_an_earlier_one_ended(server, tmp_path):
    server.files["/f"], server.break_at = CONTENT, [1000] * download.TRIES
    said = refusal(lambda: fetch(part(server), tmp_path / "d"))
    asked = len(server.ranges)

    path = fetch(part(server), tmp_path / "d")

    assert "the connection breaks off" in said
    assert server.ranges[asked:] == ["bytes=1000-"]
    assert path.read_bytes() == CONTENT


def test_a_server_that_cannot_resume_sends_all_of_it(server, tmp_path):
    server.files["/f"], server.break_at, server.resumes = CONTENT, [100_000], False

    assert fetch(part(server), tmp_path / "d").read_bytes() == CONTENT


def test_a_wrong_digest_is_refused_and_the_next_mirror_tried(server, tmp_path):
    server.files.update({"/f": CONTENT[:-1] + b"x", "/good": CONTENT})

    said = refusal(lambda: fetch(part(server), tmp_path / "d"))
    path = fetch(part(server, "f", "missing", "good"), tmp_path / "d")

    assert "its SHA-256 is not the one that is known" in said
    assert f"Download {server.address}/f elsewhere" in said
    assert f"put it into {tmp_path / 'd'} as f.bin" in said
    assert path.read_bytes() == CONTENT


def test_kept_bytes_of_another_version_do_not_last(server, tmp_path):
    server.files["/f"] = CONTENT
    (tmp_path / "f.bin.part").write_bytes(b"other" + CONTENT[5:1000])

    said = refusal(lambda: fetch(part(server), tmp_path))
    path = fetch(part(server), tmp_path)

    assert "SHA-256" in said
    assert path.read_bytes() == CONTENT


def test_a_whole_partial_file_is_taken(server, tmp_path):
    server.files["/f"] = CONTENT
    (tmp_path / "f.bin.part").write_bytes(CONTENT)

    assert fetch(part(server), tmp_path).read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_checked(server, tmp_path):
    (tmp_path / "f.bin").write_bytes(gzip.compress(CONTENT))

    assert fetch(part(server), tmp_path).name == "f.bin"
    (tmp_path / "f.bin").write_bytes(CONTENT[1:])
    assert "is another file, or damaged" in refusal(lambda: fetch(part(server), tmp_path))
    assert server.ranges == []


def test_more_than_expected_is_not_kept(server, tmp_path):
    server.files["/f"] = CONTENT

    said = refusal(lambda: fetch(replace(part(server), most_bytes=1000), tmp_path))

    assert "it is larger than" in said
    assert not (tmp_path / "f.bin.part").exists()


def test_server_errors_and_no_network_are_named(server, tmp_path, monkeypatch):
    assert "the server answers 404 Not Found" in refusal(lambda: fetch(part(server), tmp_path))
    nobody = Part(name="f.bin", urls=("http://127.0.0.1:9/f",), most_bytes=9, sha256=RIGHT)
    assert "Connection refused" in refusal(lambda: fetch(nobody, tmp_path))
    local = replace(nobody, urls=("file:///etc/passwd",))
    assert "is no web address" in refusal(lambda: fetch(local, tmp_path))
    monkeypatch.setenv(download.OFFLINE, "1")
    server.files["/f"] = CONTENT
    asked = len(server.ranges)
    assert f"{download.OFFLINE} is set" in refusal(lambda: fetch(part(server), tmp_path))
    assert len(server.ranges) == asked


@pytest.mark.parametrize("name", ["fashion-mnist", "spoken-digits", "turbofan", "bccd", "nuclei"])
def test_without_a_network_the_file_and_its_folder_are_named(name, monkeypatch, cache, capsys):
    monkeypatch.setenv(download.OFFLINE, "1")

    said = refusal(lambda: open_data(name))

    assert f"into {cache / 'downloads'}" in said
    assert "Licence: " in capsys.readouterr().err


# --- What is made of the downloads ----------------------------------------------------------------


def served(server, monkeypatch, folder, contents):
    """Serve files in the place of a data set's own addresses."""
    origin = origins.ORIGINS[folder]
    server.files.update({f"/{name}": content for name, content in contents.items()})
    parts = tuple(replace(p, urls=(f"{server.address}/{p.name}",)) for p in origin.parts)
    changed: dict[str, Origin] = {**origins.ORIGINS, folder: replace(origin, parts=parts)}
    monkeypatch.setattr(origins, "ORIGINS", changed)


def tar(contents):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"project-master/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def recording(clip):
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(clip.astype("<i2").tobytes())
    return out.getvalue()


@pytest.mark.data
def test_turbofan_is_read_from_a_download(server, monkeypatch, shared_data, cache):
    source = shared_data / "cmapss_fd001"
    tables = {f"{n}_FD001.txt": gzip.decompress((source / f"{n}_FD001.txt.gz").read_bytes())
              for n in ("train", "test")}  # fmt: skip
    tables["RUL_FD001.txt"] = (source / "RUL_FD001.txt").read_bytes()
    served(server, monkeypatch, "cmapss_fd001", tables)

    first = open_data("turbofan")
    asked = len(server.ranges)
    again = open_data("turbofan")

    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    assert first.test.sha256 == again.test.sha256 == open_data("turbofan").test.sha256
    assert asked == len(server.ranges) == 3
    assert (cache / "cmapss_fd001" / "train_FD001.txt.gz").is_file()


@pytest.mark.data
def test_spoken_digits_are_made_of_the_recordings(server, monkeypatch, shared_data):
    with np.load(shared_data / "fsdd" / "fsdd.npz") as stored:
        clips = np.split(stored["audio"], stored["offsets"][1:-1])
        names = [
            f"recordings/{digit}_{stored['speaker_names'][speaker]}_{take}.wav"
            for digit, speaker, take in zip(
                stored["label"], stored["speaker"], stored["index"], strict=True
            )
        ]
    files = {name: recording(clip) for name, clip in zip(names, clips, strict=True)}
    archive = tar({"README.md": b"#", **dict(reversed(files.items()))})
    served(server, monkeypatch, "fsdd", {"free-spoken-digit-dataset.tar.gz": archive})

    made = open_data("spoken-digits")

    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    assert made.test.sha256 == open_data("spoken-digits").test.sha256


@pytest.mark.data
def test_blood_cells_are_made_of_the_project(server, monkeypatch, shared_data):
    root = shared_data / "bccd"
    files = {}
    for path in (p for p in root.rglob("*") if p.is_file() and p.name != "LICENSE"):
        content = path.read_bytes()
        if path.suffix == ".xml":  # the author's own paths, which the copy here has not
            content = content.replace(
                b"</filename>", b"</filename>\r\n\t<path>/home/a/b.jpg</path>"
            )
        files[f"BCCD/{path.relative_to(root).as_posix()}"] = content
    served(server, monkeypatch, "bccd", {"BCCD_Dataset.tar.gz": tar(files)})

    made = open_data("bccd")

    assert b"/home/a" not in next((place("bccd") / "Annotations").iterdir()).read_bytes()
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    known = open_data("bccd")
    assert (made.test.sha256, made.test.n) == (known.test.sha256, 72)
    np.testing.assert_array_equal(made.train.read.targets, known.train.read.targets)


@pytest.mark.data
def test_nuclei_are_known_by_their_pixels(server, monkeypatch, shared_data):
    files = {}
    for number, path in enumerate(sorted((shared_data / "nuclei" / "images").iterdir())):
        colours, halves = io.BytesIO(), []
        with Image.open(path) as image:
            image.convert("RGBA").save(colours, "PNG", compress_level=1)
        with Image.open(shared_data / "nuclei" / "masks" / path.name) as mask:
            whole = np.asarray(mask) * np.uint8(255)
        for rows in (slice(0, 100), slice(100, 256)):
            half, out = np.zeros_like(whole), io.BytesIO()
            half[rows] = whole[rows]
            Image.fromarray(half).save(out, "PNG", compress_level=1)
            halves.append(out.getvalue())
        name = f"stage1_train/{hashlib.sha256(str(number).encode()).hexdigest()}"
        files[f"{name}/images/{number}.png"] = colours.getvalue()
        files.update({f"{name}/masks/{i}.png": content for i, content in enumerate(halves)})
    archive = tar(dict(sorted(files.items())))
    served(server, monkeypatch, "nuclei", {"kaggle-dsbowl-2018-dataset-fixes.tar.gz": archive})

    made = open_data("nuclei")

    assert (made.train.n, made.test.n, made.labels) == (267, 67, ("background", "nucleus"))
    for kind in ("images", "masks"):
        for name in ("001.png", "334.png"):
            ours, known = place("nuclei") / kind / name, shared_data / "nuclei" / kind / name
            with Image.open(ours) as a, Image.open(known) as b:
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_an_archive_of_something_else_is_refused(server, monkeypatch, cache):
    wav = recording(np.arange(100))
    served(
        server,
        monkeypatch,
        "fsdd",
        {"free-spoken-digit-dataset.tar.gz": tar({"recordings/0_theo_1.wav": wav})},
    )

    said = refusal(lambda: open_data("spoken-digits"))

    assert "is not the data set that is known" in said
    assert not (cache / "fsdd").exists()
    (cache / "downloads" / "fsdd" / "free-spoken-digit-dataset.tar.gz").write_bytes(b"no archive")
    assert "not the data set that is known" in refusal(lambda: open_data("spoken-digits"))


def test_the_list_of_nuclei_is_part_of_the_package():
    listed = (Path(origins.__file__).parents[1] / "nuclei.txt").read_text().split()

    assert len(set(listed)) == 334
