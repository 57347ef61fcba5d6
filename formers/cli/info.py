"""`formers info`: what a bug report needs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from formers.cli.report import exit_codes


def info(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show versions, processor, accelerators, caches, models and extras."""
    with exit_codes():
        from formers.cli.machine import describe

        sections = describe()
        if as_json:
            print(json.dumps(sections, indent=2, ensure_ascii=False))
            return
        width = max(len(name) for section in sections.values() for name in section)
        for title, section in sections.items():
            if section:
                print(f"{title}:")
            for name, value in section.items():
                print(f"  {name:{width}}  {value}")
