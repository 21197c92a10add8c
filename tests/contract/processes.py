"""Processes for tests of simultaneity, forked from one that has imported what takes most of a second."""

from __future__ import annotations

import multiprocessing

forked = multiprocessing.get_context("forkserver")
forked.set_forkserver_preload(["benefits_service.commands", "pytest"])
