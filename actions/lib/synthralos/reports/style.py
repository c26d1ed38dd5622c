"""The style of the HTML page."""

STYLE = """
:root{--back:#f6f7f9;--card:#fff;--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--good:#1a7f4b;
--bad:#c0362c;--wait:#b7791f;--idle:#8792a2;--plain:#3b6fd4;--track:#eef1f5}
@media (prefers-color-scheme:dark){:root{--back:#12161c;--card:#1b212a;--ink:#e6eaf0;--soft:#9aa6b5;
--line:#2d3641;--good:#4cc38a;--bad:#ff7b6e;--wait:#e5b454;--idle:#6d7a8a;--plain:#7aa7ff;
--track:#262e38}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 3rem}
header{border-left:.4rem solid var(--idle);padding:.2rem 0 .2rem 1rem;margin-bottom:1.2rem}
header.good{border-color:var(--good)}header.bad{border-color:var(--bad)}
header.wait{border-color:var(--wait)}header.plain{border-color:var(--plain)}
h1{font-size:1.65rem;line-height:1.2;margin:.35rem 0;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:0 0 .8rem}
.outcome,.subtitle{margin:0}.subtitle{color:var(--soft);overflow-wrap:anywhere}
.where{margin:.1rem 0 0;color:var(--soft);font-size:.8rem;overflow-wrap:anywhere}
.where:empty{display:none}
section{background:var(--card);border:1px solid var(--line);border-radius:.7rem;
padding:1.1rem 1.2rem;margin:0 0 1rem;overflow-wrap:anywhere}
section>*:last-child{margin-bottom:0}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.4rem,1fr));gap:.7rem;
margin:0 0 1rem}
.cards div{background:var(--card);border:1px solid var(--line);border-radius:.7rem;
padding:.6rem .9rem}
dt{color:var(--soft);font-size:.8rem;overflow-wrap:anywhere}dd{margin:0;overflow-wrap:anywhere}
.cards dd{font-size:1.05rem;font-weight:600}
.facts{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.3rem 1.2rem;margin:0}
.facts dt{font-size:.9rem}
.mark{font-weight:600;color:var(--idle)}
.mark.good{color:var(--good)}.mark.bad{color:var(--bad)}.mark.wait{color:var(--wait)}
.mark.plain{color:var(--plain)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th{text-align:left;color:var(--soft);font-weight:500;font-size:.8rem;padding:0 .7rem .4rem 0;
border-bottom:1px solid var(--line)}
td{padding:.45rem .7rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}
tbody tr:last-child td{border-bottom:0}.number+td,.number+th{padding-left:.7rem}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
ol{padding-left:1.4rem;margin:0}ol li{margin:.25rem 0}ol li::marker{color:var(--soft)}
.more{color:var(--soft);font-size:.85rem}
.timeline,.shares{list-style:none;margin:0;padding:0;font-size:.86rem}
.timeline li,.shares li{display:grid;grid-template-columns:13rem 1fr 13rem;gap:.8rem;
align-items:center;padding:.17rem 0}
.shares li{grid-template-columns:11rem 1fr 13rem}
.timeline .label,.shares .label,.note{overflow-wrap:anywhere}
.note{color:var(--soft);font-variant-numeric:tabular-nums}
.track{position:relative;display:block;height:.85rem;background:var(--track);border-radius:.25rem}
.shares .track{display:flex;overflow:hidden;background:none}
.track i{display:block;height:100%;background:var(--plain);min-width:3px}
.timeline .track i{position:absolute;border-radius:.25rem}
.track i.good{background:var(--good)}.track i.bad{background:var(--bad)}
.track i.idle{background:var(--idle)}.track i.plain{background:var(--plain)}
.track i.wait{background:repeating-linear-gradient(45deg,var(--wait) 0 3px,transparent 3px 6px)}
.axis .track{background:none;height:1.1rem;color:var(--soft);font-size:.75rem}
.axis .track b{position:absolute;font-weight:400;border-left:1px solid var(--line);
padding-left:.25rem;white-space:nowrap}
.axis .note{font-size:.75rem}
.depth1 .label{padding-left:1rem}.depth2 .label{padding-left:2rem}.depth3 .label{padding-left:3rem}
.depth1 .track,.depth2 .track,.depth3 .track{height:.55rem}
.states{display:block;width:100%;max-width:29rem;margin:0 auto}
.states rect{fill:var(--card);stroke:var(--plain);stroke-width:1.5}
.states text{fill:var(--ink);font-size:12px}
.state text{text-anchor:middle;font-weight:600}
.state.unseen{opacity:.45}.state.unseen rect{stroke:var(--idle);stroke-dasharray:4 3}
.state.good rect{stroke:var(--good);stroke-width:2.5}
.state.bad rect{stroke:var(--bad);stroke-width:2.5}
.state.wait rect{stroke:var(--wait);stroke-width:2.5}
.move path{fill:none;stroke:var(--soft);stroke-width:1.3}.states marker path{fill:var(--soft)}
.move text{fill:var(--soft);font-size:10.5px}
footer{color:var(--soft);font-size:.8rem;margin-top:1.5rem}
@media (max-width:640px){
main{padding:1rem .75rem 2rem}h1{font-size:1.35rem}section{padding:.9rem .9rem}
.cards{grid-template-columns:repeat(2,minmax(0,1fr))}
.timeline li,.shares li{grid-template-columns:1fr auto;gap:0 .6rem;padding:.3rem 0}
.timeline .track,.shares .track{grid-column:1/-1;grid-row:2}
.note{text-align:right}.axis .note{display:none}
.facts{grid-template-columns:1fr}.facts dd{margin-bottom:.5rem}
thead{display:none}
tr{display:block;padding:.5rem 0;border-bottom:1px solid var(--line)}
tbody tr:last-child{border-bottom:0}
td{display:grid;grid-template-columns:6.5rem 1fr;gap:.6rem;border:0;padding:.1rem 0}
td:empty{display:none}
td::before{content:attr(data-label);color:var(--soft);font-size:.8rem}
td.number{text-align:left}.number+td{padding-left:0}
}
@media print{
:root{--back:#fff;--card:#fff;--ink:#111;--soft:#444;--line:#ccc;--good:#136238;--bad:#a32b22;
--wait:#8a5a12;--idle:#777;--plain:#2c57ab;--track:#eee}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
html{font-size:11.5px}body{font-size:1rem}main{max-width:none;padding:0}
section{padding:.6rem .8rem;margin-bottom:.6rem}.cards div{padding:.3rem .6rem}
h2{break-after:avoid}tr,li,.cards div,svg{break-inside:avoid}
@page{margin:14mm}
}
"""
