"""jinns' self-scaled Broyden method, on JAX and the CPU, with its own line search (zoom).

XLA has no setting for its threads; it makes as many as there are cores that the process may use,
which the parent limits. Its compilation counts as training.
"""

import math
from itertools import pairwise

import equinox as eqx
import harness
import jax
import jax.numpy as jnp
import jinns
import numpy as np
import optax
from jinns.data import PDEStatioBatch
from jinns.loss import LossPDEStatio, PDEStatio
from jinns.optimizers import scale_by_SSBroyden_family

jax.config.update("jax_enable_x64", True)
start, trial, _ = harness.begin(["jinns", "jax", "optax", "equinox"])


def apply_form(x, N, _params):
    """The fields: G + D N where the conditions hold by form, else the network itself."""
    if start.problem == "burgers":
        return -jnp.sin(math.pi * x[1]) + x[0] * (1 - x[1] ** 2) * N
    if start.problem == "klein-gordon":
        return x[1] + x[1] ** 3 * (jnp.cos(x[0]) - 1) + x[0] ** 2 * (1 - x[1] ** 2) * N
    return N


class Residuals(PDEStatio):
    """The residuals (m,) at one point x (d,)."""

    def equation(self, x, u, params):
        def field(at):
            return u(at, params)

        value, first = field(x), jax.jacfwd(field)(x)

        def curve(i):
            """The second derivatives (fields,) along a coordinate."""
            direction = jnp.zeros_like(x).at[i].set(1.0)
            return jax.jvp(lambda at: jax.jvp(field, (at,), (direction,))[1], (x,), (direction,))[1]

        if start.problem == "burgers":
            return first[:, 0] + value * first[:, 1] - 0.01 / math.pi * curve(1)
        if start.problem == "burgers-inverse":
            tau1, tau2 = params.eq_params.tau1, params.eq_params.tau2
            return first[:, 0] + tau1 * value * first[:, 1] - jnp.exp(tau2) * curve(1)
        if start.problem == "klein-gordon":
            t, y = x
            source = -y * jnp.cos(t) + (y * jnp.cos(t)) ** 2
            return curve(0) - curve(1) + value**2 - source
        second = curve(0) + curve(1)
        momentum = first[:2] @ value[:2] + first[2] - second[:2] / 20
        return jnp.append(momentum, first[0, 0] + first[1, 1])


def make_network():
    sizes = [start.layers[0][0].shape[1], *(len(b) for _, b in start.layers)]
    layers = [(eqx.nn.Linear, a, b) for a, b in pairwise(sizes)]
    listed = [each for layer in layers for each in (layer, (jax.nn.tanh,))][:-1]
    u, weights = jinns.nn.PINN_MLP.create(
        key=jax.random.PRNGKey(0),
        eqx_list=tuple(listed),
        eq_type="PDEStatio",
        input_transform=lambda x, _params: start.slope * (x - start.middle),
        output_transform=apply_form,
    )

    def list_arrays(tree):
        linear = [each for each in tree.layers if isinstance(each, eqx.nn.Linear)]
        return [array for each in linear for array in (each.weight, each.bias)]

    given = [jnp.asarray(array) for pair in start.layers for array in pair]
    return u, eqx.tree_at(list_arrays, weights, given)


u, weights = make_network()
taus = [float(tau) for tau in start.taus] or [0.0]
names = {f"tau{number}": jnp.asarray(tau) for number, tau in enumerate(taus, start=1)}
params = jinns.parameters.Params(
    nn_params=weights, eq_params=jinns.parameters.EqParams(names, "EqParams")
)
columns = [jnp.s_[0:2], jnp.s_[2:3]] if start.problem == "kovasznay" else [jnp.s_[0:1]]
observed = tuple(
    {"pinn_in": jnp.asarray(x), "val": jnp.asarray(values), "eq_params": None}
    for x, values in start.terms
)
keys = jinns.parameters.DerivativeKeysPDEStatio.from_str(
    dyn_loss="both" if len(start.taus) else "nn_params", params=params
)
loss = LossPDEStatio(
    u=u,
    dynamic_loss=Residuals(),
    derivative_keys=keys,
    loss_weights=jinns.loss.LossWeightsPDEStatio(
        dyn_loss=1.0, observations=tuple(1.0 for _ in observed) or None
    ),
    obs_slice=tuple(columns[: len(observed)]) or None,
    params=params,
)
batch = PDEStatioBatch(
    domain_batch=jnp.asarray(start.points), border_batch=None, obs_batch_dict=observed or None
)
optimizer = scale_by_SSBroyden_family()


def evaluate(params):
    return loss.evaluate(params, batch)[0]


def fix_types(tree):
    """The same arrays with types of their own: step is then compiled once, for all iterations."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), tree)


@jax.jit
def step(params, state):
    value, gradient = jax.value_and_grad(evaluate)(params)
    updates, state = optimizer.update(
        gradient,
        state,
        params,
        value=value,
        grad_pt=gradient,
        value_fn=evaluate,
        grad_fn=jax.grad(evaluate),
    )
    return fix_types((optax.apply_updates(params, updates), state))


evaluate_fields = jax.jit(jax.vmap(u, (0, None)))


def predict(points: np.ndarray) -> np.ndarray:
    return np.asarray(evaluate_fields(jnp.asarray(points), params))


params, state = fix_types((params, optimizer.init(params)))
iterations, ends = 0, False
trial.measure(predict, 0)
trial.start_clock()
while not ends:
    params, state = jax.block_until_ready(step(params, state))
    iterations += 1
    ends = trial.is_due() and trial.measure(predict, iterations)
trial.finish("time is up, or the last error reached")
