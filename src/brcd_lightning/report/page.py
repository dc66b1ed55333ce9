"""``report.html``: one file with all tables and pictures inside, which opens without a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from brcd_lightning.report.table import Table

_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#57606a;--line:#d0d7de;--card:#f6f8fa;--link:#0550ae}
@media(prefers-color-scheme:dark){:root{--back:#0d1117;--text:#e6edf3;--soft:#9da7b3;--line:#30363d;--card:#161b22;
--link:#79c0ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1100px;padding:1rem;background:var(--back);color:var(--text);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}
a{color:var(--link)}p,li{max-width:75ch;overflow-wrap:anywhere}.note,caption,figcaption{color:var(--soft);font-size:.85rem}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px;margin:1rem 0 .25rem;max-height:80vh}
table{border-collapse:collapse;width:100%;font-size:.85rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.5rem;caption-side:top;color:var(--text);font-weight:600}
th,td{padding:.3rem .6rem;border-top:1px solid var(--line);text-align:left;white-space:nowrap}
th{background:var(--card);position:sticky;top:0}td.number{text-align:right}tbody tr:hover{background:var(--card)}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid var(--link)}
th[aria-sort=ascending] button::after{content:" \\25b2"}th[aria-sort=descending] button::after{content:" \\25bc"}
figure{margin:1rem 0;padding:.5rem;background:#fff;border:1px solid var(--line);border-radius:6px}
figure img{display:block;max-width:100%;height:auto;margin:auto}figcaption{color:#57606a}
"""

_SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const up = head.getAttribute("aria-sort") === "descending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => {
    const cell = row.cells[head.cellIndex];
    return cell.dataset.key === undefined ? cell.textContent : Number(cell.dataset.key);
  };
  const order = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;  // what is missing comes last, whichever way
    const sign = typeof x === "number" ? x - y : x.localeCompare(y);
    return up ? sign : -sign;
  };
  body.append(...[...body.rows].sort(order));
});
"""


@dataclass
class Section:
    """A part of a report.

    Args:
        title: its heading.
        tables: in order.
        figures: caption and PNG of each.
        remarks: plain sentences.
    """

    title: str
    tables: Sequence[Table] = ()
    figures: list[tuple[str, Path]] = field(default_factory=list)
    remarks: Sequence[str] = ()

    def html(self, place: int) -> str:
        """The section, with the pictures inside."""
        parts = [f"<h2 id=s{place}>{escape(self.title)}</h2>", *(table.html() for table in self.tables)]
        parts += [_figure(caption, path) for caption, path in self.figures]
        if self.remarks:
            parts.append(f"<ul>{''.join(f'<li>{escape(remark)}</li>' for remark in self.remarks)}</ul>")
        return "\n".join(parts)


def page(title: str, summary: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole document.

    Args:
        title: its heading.
        summary: sentences below it.
        sections: in order.
    """
    links = "".join(f"<a href=#s{place}>{escape(section.title)}</a>" for place, section in enumerate(sections))
    body = "\n".join(section.html(place) for place, section in enumerate(sections))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>{''.join(f'<p>{escape(line)}</p>' for line in summary)}"
        f"<nav>{links}</nav>\n{body}\n<script>{_SCRIPT}</script></body></html>\n"
    )


def _figure(caption: str, path: Path) -> str:
    picture = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/png;base64,{picture}"
    return f'<figure><img alt="{escape(caption)}" src="{source}"><figcaption>{escape(caption)}</figcaption></figure>'
