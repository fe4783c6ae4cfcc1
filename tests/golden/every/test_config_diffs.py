"""Adding and removing apps in labctl.yaml, as diffs: no other line changes, with any kind of line end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from labctl.config import edit

SHOP = {"name": "shop", "port": 8080}


@dataclass(frozen=True, slots=True)
class Edit:
    """A file before and after, as in the output of `diff`: - marks removed lines, + marks added lines."""

    diff: str

    def text(self, mark: str, line_end: str, *, last: bool) -> str:
        lines = (line[1:] for line in self.diff.strip("\n").splitlines() if line[:1] in {" ", mark, ""})
        text = "".join(f"{line}{line_end}" for line in lines)
        return text if last else text.removesuffix(line_end)


ADDED = {
    "behind the last one, with comments on and between the lines": """
 # Our lab
 workers: 2   # one is not enough

 apps:        # what runs
   # the first
   - name: my-app   # mine
     image: nginx
+  - name: shop
+    port: 8080
 hosts_file: /etc/hosts
""",
    "before what is said about the next key": """
 apps:
   - name: my-app
+  - name: shop
+    port: 8080

 # Where hostnames are written.
 hosts_file: /etc/hosts
""",
    "before apps that are commented out": """
 apps:
   - name: my-app
+  - name: shop
+    port: 8080
   # - name: old
   #   image: old:1
""",
    "behind the keys of the last one that are commented out": """
 apps:
   - name: my-app
     # replicas: 3
     # port: 8080
+  - name: shop
+    port: 8080

     # not about it
""",
    "not indented, as kubectl writes lists": """
 apps:
 - name: my-app
 - name: other
   image: "other:1"
+- name: shop
+  port: 8080
 workers: 1
""",
    "with the space that the others have behind the dash": """
 apps:
     -   name: my-app
         hostname: 'my-app.local'
+    -   name: shop
+        port: 8080
 workers: 1
""",
    "with an empty line between, where all have one": """
 apps:
   - name: my-app

   - name: other
     port: 81

+  - name: shop
+    port: 8080
+
 workers: 1
""",
    "beside values that stand in columns": """
 name:      class
 workers:   2      # for two
 memory:    4GiB
 pool:      auto
 apps:
   - name:  my-app
     image: nginx
+  - name: shop
+    port: 8080
""",
    "behind a value of several lines": """
 apps:
   - name: my-app
     image: >-
       nginx
+  - name: shop
+    port: 8080


 kubernetes:
   "1.37.2"
""",
    "with a dash on a line of its own": """
 apps:
   -
     name: my-app
+  - name: shop
+    port: 8080
""",
    "in braces, where the others are": """
 apps:
   - {name: my-app, port: 80}
+  - {name: shop, port: 8080}
""",
    "within brackets": """
 workers: 1
-apps: [ {name: my-app},  {name: other} ]  # two
+apps: [ {name: my-app},  {name: other}, {name: shop, port: 8080} ]  # two
""",
    "on a line of its own within brackets": """
 apps: [
   {name: my-app, image: "a,b"},
-  {name: other}
+  {name: other},
+  {name: shop, port: 8080}
 ]
""",
    "in a document with markers": """
 %YAML 1.1
 ---
 # the lab
 apps:
   - name: my-app
+  - name: shop
+    port: 8080
 ...
""",
    "in what is indented itself": """
   workers: 1
   apps:
   - name: my-app
+  - name: shop
+    port: 8080
   cpus: 2
""",
    "with letters of all kinds around it": """
 # Größe: 大きい 🐳
 apps:
   - name: my-app  # → nginx
+  - name: shop
+    port: 8080
 # — Ende
""",
    "in JSON": """
 {
   "apps": [
-    {"name": "my-app"}
+    {"name": "my-app"},
+    {"name": "shop", "port": 8080}
   ],
   "workers": 2
 }
""",
}
"""Where an app is added, by the file's style. Removing the app restores the file."""

CREATED = {
    "a list that was empty": """
 workers: 1
-apps: []  # none yet
+apps:  # none yet
+  - name: shop
+    port: 8080
 # the end
""",
    "a list in JSON that was empty": """
-{"workers": 2, "apps": []}
+{"workers": 2, "apps": [{"name": "shop", "port": 8080}]}
""",
    "a file without apps, which has the default one": """
 # mine
 workers: 2  # two
+apps:
+  - name: my-app
+  - name: shop
+    port: 8080

 # cpus: 4
""",
    "a document without apps, between markers": """
 ---
 workers: 2
+apps:
+  - name: my-app
+  - name: shop
+    port: 8080
 ...
""",
    "JSON without apps": """
 {
-  "workers": 2
+  "workers": 2,
+  "apps": [{"name": "my-app"}, {"name": "shop", "port": 8080}]
 }
""",
    "an empty mapping": """
-{}
+{"apps": [{"name": "my-app"}, {"name": "shop", "port": 8080}]}
""",
    "a file of comments": """
 # Our lab.
 # workers: 2
+apps:
+  - name: my-app
+  - name: shop
+    port: 8080
""",
}
"""Files that list no app: adding one creates the list."""

REMOVED = {
    "the first": """
 apps:
-  - name: shop
-    port: 8080   # not 80
-    # replicas: 3
   # mine
   - name: my-app
""",
    "the last, and not what is said about the next key": """
 apps:
   - name: my-app
   # the shop
-  - name: shop

 # Where hostnames are written.
 hosts_file: /etc/hosts
""",
    "one in the middle, with the empty line before it": """
 apps:

   - name: my-app

-  - name: shop
-
   - name: other
 workers: 1
""",
    "the first, with the empty line behind it": """
 apps:
-  - name: shop
-
   - name: other

   - name: another
""",
    "the only one": """
 # Apps.
-apps:  # mine
+apps: []  # mine
   # the shop
-  - name: shop
-    port: 8080
 workers: 2
""",
    "the first within brackets": """
-apps: [{name: shop}, {name: my-app}]  # two
+apps: [{name: my-app}]  # two
""",
    "the last within brackets": """
-apps: [{name: my-app}, {name: shop}]
+apps: [{name: my-app}]
""",
    "the only one within brackets": """
-apps: [{name: shop}]
+apps: []
""",
    "the last within brackets, and not a comment on another one": """
 apps: [
   {name: my-app},  # mine
-  {name: shop}
 ]
""",
    "the last in JSON": """
 {
   "apps": [
-    {"name": "my-app"},
-    {"name": "shop"}
+    {"name": "my-app"}
   ]
 }
""",
}

LINE_ENDS = (("\n", True), ("\n", False), ("\r\n", True), ("\r\n", False))
"""How lines end, and whether the last one does."""


def _open(folder: Path, text: str) -> edit.Source:
    path = folder / "labctl.yaml"
    path.write_bytes(text.encode())
    return edit.read_source(path)


@pytest.mark.parametrize("name", [*ADDED, *CREATED])
def test_adding_an_app_changes_no_other_line_and_removing_it_restores_the_file(tmp_path: Path, name: str) -> None:
    for line_end, last in LINE_ENDS:
        before, after = (Edit((ADDED | CREATED)[name]).text(mark, line_end, last=last) for mark in "-+")
        added = _open(tmp_path, before).with_app(SHOP)

        assert added.text == after, (line_end, last)
        if name in ADDED:
            assert added.without_app("shop").text == before, (line_end, last)


@pytest.mark.parametrize("diff", REMOVED.values(), ids=REMOVED)
def test_removing_an_app_changes_no_other_line(tmp_path: Path, diff: str) -> None:
    for line_end, last in LINE_ENDS:
        before, after = (Edit(diff).text(mark, line_end, last=last) for mark in "-+")

        assert _open(tmp_path, before).without_app("shop").text == after, (line_end, last)
