<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="is" sourcelanguage="en">
<context>
    <name>Pool</name>
    <message>
        <location filename="../pool.cpp" line="10"/>
        <source>The town&apos;s pool</source>
        <translation type="unfinished"></translation>
    </message>
    <message>
        <source>Open</source>
        <translation>Opið</translation>
    </message>
    <message numerus="yes">
        <source>%n swimmer(s)</source>
        <translation type="unfinished">
            <numerusform></numerusform>
            <numerusform></numerusform>
        </translation>
    </message>
    <message>
        <source>Closed</source>
        <translation type="vanished">Lokað</translation>
    </message>
</context>
</TS>
