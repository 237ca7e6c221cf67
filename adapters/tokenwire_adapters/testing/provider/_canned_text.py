"""The texts of the local provider: a few long pieces of Markdown, written for it.

``[[name]]`` marks a slot that `_text` fills from `SLOTS`. The pieces hold what breaks careless
streaming code: headings, nested lists, tables, fenced code with leading spaces, emoji made of
several code points, right-to-left text, CJK, accents both composed and combining, and long words.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SLOTS", "TOPICS", "Topic"]


class Topic(NamedTuple):
    """One text, and the words in a prompt that select it."""

    name: str
    keywords: frozenset[str]
    text: str


SLOTS: dict[str, tuple[str, ...]] = {
    "keeper": ("Maëlle", "Anselm", "Íris", "Tomasz", "Zoë", "Bjørn"),
    "place": ("Skarðsvík", "the Île de Sein", "Cabo Polonio", "Ōma", "Świnoujście", "Fastnet"),
    "colour": ("amber", "silver", "pale green", "apricot", "cobalt", "rose"),
    "animal": ("a one-eyed cat 🐈", "a patient gull", "an old dog 🐕‍🦺", "two noisy geese"),
    "dish": ("a mushroom risotto 🍄", "a lemon tart 🍋", "a bowl of dan dan noodles 🍜"),
    "language": ("Python", "TypeScript", "Go", "Rust"),
    "city": ("Kraków", "Besançon", "København", "São Paulo", "Đà Nẵng", "Reykjavík"),
}

_LIGHTHOUSE = """\
# The Keeper of [[place]]

When [[keeper]] took over the lighthouse at [[place]], the lamp had been dark for eleven winters. \
The villagers said it was cursed. [[keeper]] suspected a blown fuse.

The stairs were worn in the middle, as stairs are when one person climbs them for forty years. At \
the top stood the lens: taller than a door, [[colour]] in the evening light, and so dusty that a \
spider had mistaken it for real estate.

## The first night

On the first night there was only the wind, and [[animal]] that had apparently come with the \
building. [[keeper]] wrote in the logbook:

> 21:40. Lamp cleaned. Mechanism turns, but complains.
> 22:15. So do I.
> 23:05. Light.

The beam went out over the water, once every *seven* seconds, and for a while nothing answered.

## The answer

Then, very far away, a small light blinked back. Once. Twice. A pause, then once again.

1. It could have been a fishing boat.
2. It could have been a star, low on the horizon, behind a cloud.
3. It could have been — and this is what [[keeper]] chose to believe — **another keeper**, on \
another rock, who had been waiting eleven winters for somebody to say good evening.

So every night after that, the lamp at [[place]] paused for a single beat at midnight. The charts \
call it an irregularity in the mechanism. The ships' captains, who know better, call it *manners*.

When the inspector came in spring, he timed the lamp, frowned, and timed it again. “It skips,” he \
said. “It greets,” said [[keeper]]. He looked at the sea for a long moment, closed his notebook, \
and wrote nothing at all. 🌊
"""

_STREAMING = """\
# How a reply reaches your screen

A language model does not write a reply and then send it. It writes **one token at a time**, and a \
token is a piece of a word: `stream` and `ing`, say, or ` the` with its leading space. What you \
see appearing is the work itself.

## The wire

Most providers use *server-sent events*. The response stays open, and every event is a few lines \
of text that end with an empty line:

```http
HTTP/1.1 200 OK
content-type: text/event-stream

data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}

data: {"choices":[{"index":0,"delta":{"content":"lo"}}]}

data: [DONE]
```

Reading it in Python takes a few lines:

```python
async def read(stream):
    text = ""
    async for chunk in stream:
        for choice in chunk.choices:
            if choice.delta.content:
                text += choice.delta.content
                print(choice.delta.content, end="", flush=True)
    return text
```

## What goes wrong

| trouble | what you notice | what helps |
| --- | --- | --- |
| the connection drops | half a sentence | resume from a cursor |
| the same event arrives twice | “the the” | offsets on every delta |
| a slow reader | memory grows | a snapshot in place of the backlog |
| a closed tab | the model runs on, and costs | a cancel that reaches the provider |

Three habits keep this pleasant:

- **Send the first token at once.** People forgive a slow reply; they do not forgive silence.
- **Never guess.** If something was lost, say so and send the whole text again.
  - A gap that is visible is a nuisance.
  - A gap that is invisible is a bug report in three months.
- **Stop when asked.** Closing the provider's response ends the generation, and the bill with it.

That is all there is to it. The rest is bookkeeping — but good bookkeeping. ✅
"""

_TEA = """\
# 茶: a short walk through tea

The Chinese character 茶 joins grass (艹), a person (人) and a tree (木): *somebody among the \
plants*. Nearly every language took one of two words for it. By land went **chá**: हिन्दी चाय, \
русский чай, العربية شاي, 日本語 お茶. By sea, from the port of 廈門, went **tê**: English \
*tea*, français *thé*, Deutsch *Tee*.

## Six colours, one leaf

They all come from *Camellia sinensis*. What differs is how long the leaf meets the air:

1. **綠茶, green.** Heated at once, so it stays green. Think of 龍井 or 煎茶.
2. **白茶, white.** Withered and dried, hardly touched.
3. **黃茶, yellow.** Green tea that was wrapped warm and left to think.
4. **烏龍, oolong.** Bruised, rested, bruised again; anything from spring flowers to roasted nuts.
5. **紅茶, black.** Fully oxidised. In Chinese it is called *red*, after the colour in the cup.
6. **黑茶, dark.** Aged for years, like 普洱. Smells of forest and old books. 📚

## A recipe for a quiet afternoon

- Warm the pot. It takes ten seconds and changes everything.
- 3 g of leaf for 150 ml of water; 80 °C for green, 95 °C for black.
- Wait two minutes. 一期一会: *one time, one meeting* — this cup will not come again.
- Pour all of it. Leaves that sit in water grow bitter, as people do.

[[keeper]], who runs a tea house in [[city]], puts it more simply:

> 熱いお茶と、静かな時間。それだけでいい。

Hot tea and a quiet hour; nothing more is needed. 🍵
"""

_KITCHEN = """\
# Cooking [[dish]] for four

You will need about forty minutes, one good knife, and somebody to talk to. 👩🏽‍🍳

## What to buy

| ingredient | how much | if you cannot find it |
| --- | ---: | --- |
| shallots | 3 | one small onion |
| butter | 60 g | olive oil |
| crème fraîche | 100 ml | Greek yoghurt |
| jalapeño | ½ | a pinch of cayenne 🌶️ |
| fresh herbs | a handful | do without, but sigh |

## How to go about it

1. Chop the shallots *finely*. If you cry, you are doing it right.
2. Melt the butter until it foams, then until the foam dies down. Listen: it goes quiet.
3. Add the shallots and a little salt.
   - They should soften, not brown.
   - If they brown anyway, call it *caramelised* and carry on.
4. Now the main thing, in small amounts, stirring. Do not look at your phone. 📵
5. Taste. Then taste again. Cooks who do not taste are only following instructions.

> “Le secret, c'est le beurre.” — every grandmother between [[city]] and the sea

## Serving

Warm the plates, turn down the lights, and bring it to the table while it still has something to \
say. Somebody will ask for the recipe. Tell them it is *an old family secret*, and send them this \
page later. 👨‍👩‍👧‍👦

The washing-up belongs to whoever did not cook. This is not a suggestion; it is the law. ⚖️
"""

_BUG = """\
# The bug that only happened on Thursdays

A team in [[city]] had a service written in [[language]] that lost exactly one message a week. \
Never on Monday. Never twice. Always on a Thursday, shortly after lunch.

## The suspects

- **The network**, because it is always the network. It was not the network.
- **The clock.** Somebody had seen a leap second once and never recovered from it.
- **[[keeper]]**, who had joined on a Thursday. Circumstantial, but noted.

## The evidence

After three weeks they added one line of logging, which is usually how these stories end:

```python
def drain(queue, limit=64):
    batch = []
    while queue and len(batch) < limit:
        batch.append(queue.popleft())
    if len(batch) == limit:
        return batch          # more to come
    flush(batch)
    return []                 # ... and who reads this?
```

Look at it slowly. If the queue holds *exactly* sixty-four messages, the batch is returned and not \
flushed, and the caller — who believed the comment — comes back for more. There is no more. The \
batch falls on the floor.

On Thursdays the canteen served soup. ☕ Everybody went at once, traffic fell to a trickle, and \
once in a while the last batch of the morning was exactly full.

## What they learned

1. An off-by-one error is patient. It waits for the day when the number is right.
2. A comment is a promise that nobody tests.
3. Write the test for `limit`, for `limit - 1` and for `limit + 1`. All three. *Always.*

The fix was four characters long. The retrospective took two hours, and there was soup. 🍲
"""

_SKY = """\
# Looking up: a field guide to one clear night

Go outside, away from the street lamps, and give your eyes twenty minutes. They are slow, but they \
are better than you think. 🌌

## In the first hour

The brightest “star” that does not twinkle is a planet. Stars flicker because they are points, and \
the air bends their light this way and that; a planet is a tiny disc, and its flicker averages out.

- **Jupiter** shows four moons in any pair of binoculars. Galileo saw them in January 1610 and \
drew them as asterisks: `* * O * *`.
- **The Pleiades** look like a small smudge. In Japan they are called 昴 (*Subaru*); in Māori, \
*Matariki*; in Quechua, *Qullqa*, the storehouse.
- **The Milky Way** is our own galaxy from the inside. The dark lanes are not gaps: they are dust.

## Some numbers to feel small by

| what | how far | when the light left |
| --- | --- | --- |
| the Moon 🌕 | 384 400 km | 1.3 s ago |
| the Sun ☀️ | 1 AU | 8 min 20 s ago |
| Vega | 25 ly | when you were younger |
| M31 | 2 500 000 ly | before there were people |

The relation behind it is only $t = d / c$, with $c \\approx 3 \\times 10^{8}\\,\\mathrm{m/s}$. \
Everything you see up there is old news, delivered faithfully.

## Before you go in

Pick one star. Learn its name — *Zubenelgenubi* is a good one, from Arabic الزبان الجنوبي, “the \
southern claw”. Next time you will recognise it, and the sky will hold one thing that is yours. ✨
"""

_JOURNEY = """\
# Six trains to [[city]]

There is a faster way to go. There is always a faster way. But [[keeper]] had nine days, a \
paper timetable and a firm opinion about aeroplanes. 🚂

## Day one: leaving

The first train smelled of coffee and wet coats. Across the aisle a naïve young violinist was \
coördinating, by telephone, the rescue of a façade; it was unclear whether this was a building or \
a relationship. “Ça ira,” she said at last, and slept until the border.

## Day three: the mountains

Tunnels, then light, then tunnels again, like somebody turning the pages of a book too fast. At \
Göschenen the conductor pointed out the church at Wassen, which you pass *three times*:

1. once from below,
2. once from the side,
3. and once from above, by which time it feels like an old friend.

## Day six: the plain

Nothing happened, for hundreds of kilometres, beautifully. Fields; a stork; a boy who waved at \
every carriage with equal joy. The longest word of the journey stood on a sign beside the line: \
*Donaudampfschifffahrtsgesellschaftskapitän*. [[keeper]] copied it out twice to be sure.

## Day nine: arriving

[[city]] appeared the way cities do from a train: gardens first, then washing lines, then backs of \
houses, then suddenly everything. On the platform stood a man with a sign that said, in \
[[colour]] letters, **WELCOME**. It was meant for somebody else. [[keeper]] took it personally \
anyway — and Zoe\u0308, cafe\u0301 owner and keeper of lost luggage, laughed out loud.

*Some journeys are only a way of getting somewhere. This was not one of those.* 🧳
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOPICS: tuple[Topic, ...] = (
    Topic("lighthouse", _words("story tale lighthouse sea keeper once fiction"), _LIGHTHOUSE),
    Topic("streaming", _words("stream streaming token tokens sse explain api http"), _STREAMING),
    Topic("tea", _words("tea japan japanese chinese china language words"), _TEA),
    Topic("kitchen", _words("recipe cook cooking dinner food eat kitchen"), _KITCHEN),
    Topic("bug", _words("bug code debug debugging python program test tests"), _BUG),
    Topic("sky", _words("sky star stars space moon planet astronomy night"), _SKY),
    Topic("journey", _words("travel train trains trip journey city holiday"), _JOURNEY),
)
