"""What the application holds, as one typed record: routes get it by the dependency `StateDep`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from serve.adapters.follower import Follower
from serve.corrections import Feedback
from serve.documents.jobs import Jobs
from serve.monitor import Monitor
from serve.translation.service import Service


@dataclasses.dataclass(frozen=True, slots=True)
class AppState:
    """`feedback` is None where the operator names no file for corrections; `compare_base` says whether callers may ask for the base without an adapter."""

    service: Service
    follower: Follower
    monitor: Monitor
    jobs: Jobs
    feedback: Feedback | None = None
    compare_base: bool = False


def set_state(app: FastAPI, state: AppState) -> None:
    app.state.tellmt = state


def state_of(app: FastAPI) -> AppState:
    state: AppState = app.state.tellmt
    return state


# A coroutine, since FastAPI would run a plain function in a thread.
async def _request_state(request: Request) -> AppState:
    return state_of(request.app)


StateDep = Annotated[AppState, Depends(_request_state)]
