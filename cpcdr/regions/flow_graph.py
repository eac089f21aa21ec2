"""The flow of a random walker on an undirected weighted graph, and coarsening of the graph."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class FlowGraph(NamedTuple):
    """A graph in compressed sparse rows with the walker's flow; node flows sum to 1."""

    first: NDArray[np.int64]  # [N + 1] start of each node's row
    neighbour: NDArray[np.int32]  # [2E]
    link: NDArray[np.float64]  # [2E] flow of the link in one direction
    flow: NDArray[np.float64]  # [N] the walker's visit rate, including links within the node
    leaving: NDArray[np.float64]  # [N] sum of the row: the rate of leaving the node


def link_flow(edges: NDArray[np.int32], weights: NDArray[np.floating], nodes: int) -> FlowGraph:
    """The flow graph of edges [E, 2]; a link's flow is its fraction of the total weight."""
    total = 2.0 * float(np.sum(weights, dtype=np.float64))
    flows = weights.astype(np.float64) / (total if total > 0 else 1.0)
    return _compressed_rows(np.ascontiguousarray(edges), flows, nodes)


@njit(cache=True, nogil=True)
def _compressed_rows(edges, flows, nodes):
    first = np.zeros(nodes + 1, np.int64)
    leaving = np.zeros(nodes)
    for e in range(len(edges)):
        for node in edges[e]:
            first[node + 1] += 1
            leaving[node] += flows[e]
    first = np.cumsum(first)
    slot = first[:-1].copy()
    neighbour = np.empty(2 * len(edges), np.int32)
    link = np.empty(2 * len(edges))
    for e in range(len(edges)):
        a, b = edges[e]
        neighbour[slot[a]], link[slot[a]] = b, flows[e]
        neighbour[slot[b]], link[slot[b]] = a, flows[e]
        slot[a] += 1
        slot[b] += 1
    return FlowGraph(first, neighbour, link, leaving.copy(), leaving)


@njit(cache=True, nogil=True)
def renumber(modules):
    """Ids 0..R-1 in order of first appearance, in place; returns R."""
    new = np.full(len(modules), -1, np.int32)
    count = 0
    for node in range(len(modules)):
        if new[modules[node]] < 0:
            new[modules[node]] = count
            count += 1
        modules[node] = new[modules[node]]
    return count


@njit(cache=True, nogil=True)
def _members_by_module(modules, count):
    """Nodes sorted by module, and the start of each module."""
    first = np.zeros(count + 1, np.int64)
    for module in modules:
        first[module + 1] += 1
    first = np.cumsum(first)
    slot = first[:-1].copy()
    members = np.empty(len(modules), np.int32)
    for node in range(len(modules)):
        members[slot[modules[node]]] = node
        slot[modules[node]] += 1
    return first, members


@njit(cache=True, nogil=True)
def aggregate(graph, modules, count):
    """The graph whose nodes are the modules; links within a module are absorbed into its flow."""
    first_member, members = _members_by_module(modules, count)
    first = np.zeros(count + 1, np.int64)
    neighbour = np.empty(len(graph.neighbour), np.int32)
    link = np.empty(len(graph.neighbour))
    flow, leaving = np.zeros(count), np.zeros(count)
    slot = np.full(count, -1, np.int64)
    used = 0
    for module in range(count):
        for node in members[first_member[module] : first_member[module + 1]]:
            flow[module] += graph.flow[node]
            for k in range(graph.first[node], graph.first[node + 1]):
                other = modules[graph.neighbour[k]]
                if other == module:
                    continue
                leaving[module] += graph.link[k]
                if slot[other] < first[module]:
                    slot[other] = used
                    neighbour[used] = other
                    link[used] = 0.0
                    used += 1
                link[slot[other]] += graph.link[k]
        first[module + 1] = used
    return FlowGraph(first, neighbour[:used].copy(), link[:used].copy(), flow, leaving)


@njit(cache=True, nogil=True)
def connected_modules(first, neighbour, modules):
    """Modules split into connected components, numbered in order of first appearance."""
    components = np.full(len(modules), -1, np.int32)
    stack = np.empty(len(modules), np.int32)
    count = 0
    for start in range(len(modules)):
        if components[start] >= 0:
            continue
        components[start] = count
        stack[0] = start
        height = 1
        while height > 0:
            height -= 1
            node = stack[height]
            for k in range(first[node], first[node + 1]):
                other = neighbour[k]
                if components[other] < 0 and modules[other] == modules[node]:
                    components[other] = count
                    stack[height] = other
                    height += 1
        count += 1
    return components
