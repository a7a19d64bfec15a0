"""One set of colours for the whole book, told apart by all readers, in Python and on the live page.

Colour blindness is simulated as in Machado, Oliveira and Fernandes (2009), at full severity. The
distance of two colours is CIEDE2000.
"""
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pix2seq.boxes import PALETTE, _ink
from pix2seq.tokenizer import TOKEN_COLORS

STYLE = (Path(__file__).parent.parent/'nbs/live/live.css').read_text()
TOKENS = {kind: color for kind, color in TOKEN_COLORS.items() if kind != 'unused'}
EYES = dict(
    most=np.eye(3),
    protanopia=[[.152286, 1.052583, -.204868], [.114503, .786281, .099216],
                [-.003882, -.048116, 1.051998]],
    deuteranopia=[[.367322, .860646, -.227968], [.280085, .672501, .047413],
                  [-.011820, .042940, .968881]])
TO_XYZ = np.array([[.4124564, .3575761, .1804375], [.2126729, .7151522, .0721750],
                   [.0193339, .1191920, .9503041]])


def light(color):
    "Red, green and blue without gamma."
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= .04045, rgb/12.92, ((rgb + .055)/1.055)**2.4)


def contrast(a, b):
    "WCAG's contrast of two colours without gamma, from 1 to 21."
    low, high = sorted(.05 + TO_XYZ[1]@color for color in (a, b))
    return high/low


def lab(rgb):
    "CIELAB of a colour without gamma."
    xyz = TO_XYZ@rgb/TO_XYZ.sum(1)
    x, y, z = np.where(xyz > 216/24389, np.cbrt(xyz), (24389/27*xyz + 16)/116)
    return np.array([116*y - 16, 500*(x - y), 200*(y - z)])


def distance(a, b):
    "CIEDE2000 of two colours in CIELAB."
    lightness, (chroma_a, chroma_b) = (a[0] + b[0])/2, (np.hypot(*c[1:]) for c in (a, b))
    mean7 = ((chroma_a + chroma_b)/2)**7
    stretch = 1 + (1 - np.sqrt(mean7/(mean7 + 25**7)))/2
    one, two = (complex(c[1]*stretch, c[2]) for c in (a, b))
    chroma = (abs(one) + abs(two))/2
    turn = np.angle(two*one.conjugate()) if one and two else 0
    hue = np.degrees(np.angle(one) + turn/2) if one and two else np.degrees(np.angle(one + two))
    weight = 1 + sum(k*np.cos(np.radians(n*hue + shift)) for k, n, shift in
                     ((-.17, 1, -30), (.24, 2, 0), (.32, 3, 6), (-.20, 4, -63)))
    off = (lightness - 50)**2
    d_light = (b[0] - a[0])/(1 + .015*off/np.sqrt(20 + off))
    d_chroma = (abs(two) - abs(one))/(1 + .045*chroma)
    d_hue = 2*np.sqrt(abs(one)*abs(two))*np.sin(turn/2)/(1 + .015*chroma*weight)
    rotation = -2*np.sqrt(chroma**7/(chroma**7 + 25**7))*np.sin(
        np.radians(60*np.exp(-((hue % 360 - 275)/25)**2)))
    return np.sqrt(d_light**2 + d_chroma**2 + d_hue**2 + rotation*d_chroma*d_hue)


@pytest.mark.parametrize('a, b, expected', [                      # of Sharma, Wu and Dalal (2005)
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, .0795, -1.1350), (.9033, -.0636, -.5514), .9082)])
def test_distance_is_ciede2000(a, b, expected):
    assert distance(np.array(a), np.array(b)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize('eyes', EYES)
@pytest.mark.parametrize('colors', [PALETTE, [*TOKENS.values()]], ids=['palette', 'tokens'])
def test_any_two_colours_differ(colors, eyes):
    seen = {color: lab(np.clip(EYES[eyes]@light(color), 0, 1)) for color in colors}
    near = {(a, b): d for a, b in combinations(colors, 2) if (d := distance(seen[a], seen[b])) < 10}
    assert not near


@pytest.mark.parametrize('color', [*PALETTE, *TOKENS.values(), 'gray', 'red'])
def test_names_can_be_read(color):
    assert contrast(light(color), light(_ink(color))) >= 4.5
    if color in TOKENS.values(): assert contrast(light(color), light('black')) >= 4.5


@pytest.mark.parametrize('color', [*PALETTE, 'white'])
def test_edges_of_boxes_are_seen_on_any_ground(color):
    "Somewhere between a box, its dark halo and the image there is an edge."
    for level in np.linspace(0, 1, 21):
        ground, halo = light((level,)*3), light((.3*level,)*3)    # the halo covers 0.7
        line = light(color)
        edges = contrast(line, halo), contrast(halo, ground), contrast(line, ground)
        assert max(edges) >= 1.5, level


def test_live_page_has_the_same_colours():
    names = dict(re.findall(r'--(\w+): (#\w{6})', STYLE.partition('.quarto-dark')[0]))
    for kind in ('coordinate', 'class', 'noise', 'prompt'): assert names[kind] == TOKENS[kind]
    names |= re.findall(r'\.live \.(\w+) { --kind: (#\w{6})', STYLE)
    places = dict(kept=0, found=1, right=5, wrong=4, jittered=1, shifted=5, random=3)
    assert {name: names[name].upper() for name in places} == {
        name: PALETTE[k] for name, k in places.items()}
