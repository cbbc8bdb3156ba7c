"""Pictures of rows, drawn off screen: of the live ones, and of any that was saved."""

from __future__ import annotations

import copy
import importlib
import os
import sys
from typing import Any

import mujoco
import numpy as np

from delegate.envs.mujoco.physics import STATE
from delegate.envs.mujoco.task import TaskSettings

BACKENDS = ("egl", "osmesa", "glfw")


class RenderingUnavailable(RuntimeError):
    """No OpenGL could be found to draw with."""


class Painter:
    """Draws rows of one model, seen as the settings say."""

    def __init__(
        self, model: mujoco.MjModel, settings: TaskSettings, camera: dict[str, Any]
    ) -> None:
        """camera: the task's own; `default_camera_config` takes its place"""
        self._model = copy.copy(model)  # drawing needs a larger buffer, and moves sites about
        size = self._model.vis.global_
        size.offwidth = max(size.offwidth, settings.width)
        size.offheight = max(size.offheight, settings.height)
        self._data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, self._data)
        self._gl, self._context = open_context(self._model, settings.width, settings.height)
        self._frame = mujoco.MjrRect(0, 0, settings.width, settings.height)
        self._scene = mujoco.MjvScene(self._model, settings.max_geom)
        self._option = mujoco.MjvOption()
        for flag, shown in (settings.visual_options or {}).items():
            self._option.flags[flag] = shown
        self._followed: int | None = None
        self._camera = self._place_camera(settings, camera)

    def paint(self, state: np.ndarray, sites: dict[str, np.ndarray]) -> np.ndarray:
        """The picture of a row. uint8 [height, width, 3]

        state: float64 [nstate], a row of the physics · sites: where sites are, by name
        """
        for name, position in sites.items():
            self._model.site(name).pos[: len(position)] = position
        mujoco.mj_setState(self._model, self._data, state, STATE)
        mujoco.mj_forward(self._model, self._data)
        if self._followed is not None:
            # MuJoCo's own tracking camera lags behind, so pictures would depend on those before
            self._camera.lookat[:] = self._data.subtree_com[self._followed]
        self._gl.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._option,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        mujoco.mjr_render(self._frame, self._scene, self._context)
        picture = np.empty((self._frame.height, self._frame.width, 3), np.uint8)
        mujoco.mjr_readPixels(picture, None, self._frame, self._context)
        return picture[::-1].copy()

    def close(self) -> None:
        """Give back what OpenGL holds."""
        self._context.free()
        self._gl.free()

    def _place_camera(self, settings: TaskSettings, own: dict[str, Any]) -> mujoco.MjvCamera:
        camera = mujoco.MjvCamera()
        fixed = settings.camera_id
        if settings.camera_name is not None:
            if fixed is not None:
                raise ValueError("camera_id and camera_name are both given; give one")
            fixed = self._model.camera(settings.camera_name).id
        if fixed is not None and fixed >= 0:
            camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, fixed
            return camera
        camera.lookat[:] = np.median(self._data.geom_xpos, axis=0)
        camera.distance = self._model.stat.extent
        view = own if settings.default_camera_config is None else settings.default_camera_config
        for name, value in view.items():
            if name == "lookat":
                camera.lookat[:] = value
            elif name == "trackbodyid":
                self._followed = int(value)
            else:
                setattr(camera, name, value)
        return camera


def open_context(model: mujoco.MjModel, width: int, height: int) -> tuple[Any, mujoco.MjrContext]:
    """OpenGL without a window, by MUJOCO_GL or else the first that can be had, and the model in it.

    Raises RenderingUnavailable with what each of them lacks.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    display = sys.platform != "linux" or "DISPLAY" in os.environ
    names = (chosen,) if chosen in BACKENDS else BACKENDS if display else BACKENDS[:2]
    reasons = []
    for name in names:
        try:
            context = importlib.import_module(f"mujoco.{name}").GLContext(width, height)
            context.make_current()
            drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        except Exception as error:  # each library fails in its own way
            reasons.append(f"{name}: {type(error).__name__}: {error}")
        else:
            return context, drawing
    raise RenderingUnavailable(
        f"no OpenGL to draw with ({'; '.join(reasons)}); install libegl1 (MUJOCO_GL=egl) or "
        "libosmesa6 (MUJOCO_GL=osmesa)"
    )
