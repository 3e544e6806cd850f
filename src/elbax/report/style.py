"""The style sheet of the page: one column on a phone, two on a desk, black on white on paper."""

from __future__ import annotations

from elbax.report.palette import css_variables

__all__ = ["STYLE_SHEET"]

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0 auto;max-width:72rem;padding:1.5rem clamp(1rem,4vw,2.5rem) 3rem;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif}
h1{font-size:clamp(1.6rem,4.5vw,2.2rem);line-height:1.15;margin:.1rem 0 .3rem;letter-spacing:-.01em;
overflow-wrap:anywhere}
h2{font-size:1.3rem;line-height:1.25;margin:3rem 0 .75rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.75rem 0 .4rem}
p,ul,dl{margin:.5rem 0;max-width:46rem}
ul{padding-left:1.2rem}li{margin:.3rem 0}
.eyebrow,.lead,figcaption,.note,footer{color:var(--muted)}
.eyebrow{font-size:.8rem;letter-spacing:.06em;text-transform:uppercase;margin:0}
.lead{font-size:1.05rem}
code,pre,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.86em;
overflow-wrap:anywhere}
pre{background:var(--panel);border:1px solid var(--line);border-radius:.4rem;padding:.6rem .8rem;white-space:pre-wrap;
margin:.5rem 0}
pre code{font-size:1em}.keep,.keep code{white-space:nowrap;overflow-wrap:normal}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;margin:1.2rem 0 0;max-width:none}
nav li{margin:0}
a{color:var(--blue);text-decoration:none}a:hover,a:focus-visible{text-decoration:underline}
.outcome{border-left:.3rem solid var(--edge);background:var(--panel);border-radius:.2rem .4rem .4rem .2rem;
padding:.7rem 1rem;margin:1.2rem 0;max-width:none}
.outcome p{margin:.2rem 0 0;overflow-wrap:anywhere}.outcome strong{font-size:1.05rem}
.good{border-color:var(--green)}.notice{border-color:var(--orange)}.bad{border-color:var(--red)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,10rem),1fr));gap:.8rem;margin:1.2rem 0;
padding:0;list-style:none;max-width:none}
.cards li{border:1px solid var(--line);border-radius:.5rem;padding:.7rem .85rem;margin:0;max-width:24rem}
.cards .name{font-weight:600;font-size:.9rem}
.cards .value{font-size:clamp(1.3rem,3.4vw,1.65rem);line-height:1.25;
font-variant-numeric:tabular-nums;white-space:nowrap}
.cards .value .error{font-size:.62em;color:var(--muted)}
.cards .unit{font-size:.85rem;color:var(--muted);white-space:normal}
.cards .about{font-size:.85rem;color:var(--muted);margin-top:.45rem;line-height:1.4}
.num{font-variant-numeric:tabular-nums;white-space:nowrap}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1.75rem 2.25rem;
align-items:start;margin:1rem 0}
.row>div{min-width:0}.row>div>:first-child{margin-top:0}
figure{margin:0;min-width:0}
figcaption{font-size:.86rem;line-height:1.5;margin-top:.5rem}
figcaption b{color:var(--ink)}
.row figure{max-width:38rem}
.drawing{display:block;width:100%;height:auto;stroke-linejoin:round;stroke-linecap:butt;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif}
.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.9rem;margin:.6rem 0;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35rem 1rem .35rem 0;border-bottom:1px solid var(--line)}
td:last-child,th:last-child{padding-right:0}
thead th{font-weight:600;color:var(--muted);font-size:.82rem;border-bottom-color:var(--edge)}
tbody th{font-weight:500}
.about td:last-child{color:var(--muted)}
.changed{color:var(--orange);font-weight:600}
dl.facts{display:grid;grid-template-columns:minmax(7rem,auto) 1fr;gap:.3rem 1.2rem;max-width:none}
dl.facts dt{color:var(--muted)}dl.facts dd{margin:0;overflow-wrap:anywhere;min-width:0}
@media (max-width:38rem){
.stack thead{display:none}.stack tr{display:block;padding:.5rem 0;border-bottom:1px solid var(--line)}
.stack th,.stack td{display:block;border:0;padding:.08rem 0}.stack tbody th{font-weight:650}
.stack td::before{content:attr(data-label) ": ";color:var(--muted)}.stack td:empty{display:none}
dl.facts{grid-template-columns:1fr;gap:0}dl.facts dd{margin-bottom:.45rem}
}
footer{margin-top:3rem;padding-top:.9rem;border-top:1px solid var(--line);font-size:.85rem}
"""

_PRINT = """
@page{margin:14mm}
html{font-size:8.8pt}
body{max-width:none;padding:0}
nav{display:none}
h2{margin-top:1.5rem}
h1,h2,h3,caption,thead{break-after:avoid}
figure,.cards li,.outcome,pre,tr{break-inside:avoid}
.row{grid-template-columns:1fr 1fr;gap:1.2rem 1.4rem}
.row>div:only-child{max-width:60%}
.wide{overflow:visible}
a{color:inherit}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
"""

STYLE_SHEET = (
    f":root{{color-scheme:light dark;{css_variables(dark=False)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{css_variables(dark=True)}}}}}"
    f"{_RULES}@media print{{{_PRINT}}}"
)
